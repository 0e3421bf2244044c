package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const fieldManager = "peer"

type reconciler struct {
	client.Client
	events events.EventRecorder
}

func setUp(manager ctrl.Manager, concurrency int) error {
	return ctrl.NewControllerManagedBy(manager).
		For(&LLMEndpoint{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ServiceAccount{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Service{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&appsv1.StatefulSet{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(&reconciler{manager.GetClient(), manager.GetEventRecorder("peer")})
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	endpoint := &LLMEndpoint{}
	if err := r.Get(ctx, request.NamespacedName, endpoint); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if endpoint.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	for _, child := range children(endpoint) {
		configuration := client.ApplyConfigurationFromUnstructured(child)
		if err := r.Apply(ctx, configuration, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
			return ctrl.Result{}, fmt.Errorf("apply %s %s: %w", child.GetKind(), child.GetName(), err)
		}
	}
	return ctrl.Result{}, r.updateStatus(ctx, endpoint)
}

func (r *reconciler) updateStatus(ctx context.Context, endpoint *LLMEndpoint) error {
	set := &appsv1.StatefulSet{}
	name := types.NamespacedName{Namespace: endpoint.Namespace, Name: endpoint.Name}
	if err := r.Get(ctx, name, set); client.IgnoreNotFound(err) != nil {
		return err
	}
	before := endpoint.DeepCopy()
	status := &endpoint.Status
	status.ObservedGeneration = endpoint.Generation
	status.URL = fmt.Sprintf("http://%s.%s.svc:%d", endpoint.Name, endpoint.Namespace, port(endpoint))
	status.Replicas = int64(set.Status.Replicas)
	status.ReadyReplicas = int64(set.Status.ReadyReplicas)
	status.Selector = "llmendpoint.dev/endpoint=" + endpoint.Name
	latest := set.Status.ObservedGeneration >= set.Generation && set.Generation > 0
	meta.SetStatusCondition(&status.Conditions, condition(endpoint, "Ready", status.ReadyReplicas > 0, "Starting"))
	meta.SetStatusCondition(&status.Conditions, condition(endpoint, "Reconciling", !latest, "RollingOut"))
	if equality.Semantic.DeepEqual(before.Status, *status) {
		return nil
	}
	if err := r.Status().Update(ctx, endpoint); err != nil {
		return client.IgnoreNotFound(err)
	}
	if before.Status.ObservedGeneration == 0 {
		r.events.Eventf(endpoint, nil, corev1.EventTypeNormal, "Starting", "Create", "The pods are starting.")
	}
	return nil
}

func condition(endpoint *LLMEndpoint, kind string, holds bool, reason string) metav1.Condition {
	status := metav1.ConditionFalse
	if holds {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: "See the StatefulSet.",
		ObservedGeneration: endpoint.Generation,
	}
}
