// A controller-runtime operator that creates the same children for an LLMEndpoint as ours, for comparison.
//
// It is written as the Kubebuilder book describes: one reconcile function builds all children, applies each of them by
// server-side apply, and then updates the status. Its caches hold only labeled children without managedFields.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	listen := flag.String("health-listen", "127.0.0.1:8080", "listen address for /readyz")
	elect := flag.Bool("leader-election", false, "write only while this process holds the Lease")
	namespace := flag.String("own-namespace", "llmendpoint-system", "namespace of the Lease")
	concurrency := flag.Int("concurrency", 8, "number of reconciles at the same time")
	// The package of controller-runtime that reads KUBECONFIG has registered its flag.
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseDevMode(false)))
	if err := run(*listen, *namespace, *elect, *concurrency); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, namespace string, elect bool, concurrency int) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addToScheme(scheme)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	// The limits of the client are switched off: the API server's own priority and fairness applies.
	config.QPS = -1
	ours := labels.SelectorFromSet(labels.Set{managedByLabel: managedBy})
	selected := cache.ByObject{Label: ours}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&appsv1.StatefulSet{}: selected, &corev1.Service{}: selected,
				&corev1.ConfigMap{}: selected, &corev1.ServiceAccount{}: selected,
				&networkingv1.NetworkPolicy{}: selected,
			},
		},
		Metrics:                 metrics.Options{BindAddress: "0"},
		HealthProbeBindAddress:  listen,
		LeaderElection:          elect,
		LeaderElectionID:        "peer",
		LeaderElectionNamespace: namespace,
		// The process ends immediately after the manager.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	ready := func(request *http.Request) error {
		if !manager.GetCache().WaitForCacheSync(request.Context()) {
			return fmt.Errorf("the caches are not synchronized")
		}
		return nil
	}
	if err := manager.AddReadyzCheck("caches", ready); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := setUp(manager, concurrency); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
