package main

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	endpointLabel  = "llmendpoint.dev/endpoint"
	componentLabel = "app.kubernetes.io/component"
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "llmendpoint"
)

// The pod template of an endpoint on one GPU, as our operator builds it, without names.
//
//go:embed pod.json
var podText []byte

type object = map[string]any

var pod = func() object {
	parsed := object{}
	if err := json.Unmarshal(podText, &parsed); err != nil {
		panic(err)
	}
	return parsed
}()

// children returns the same children as our operator creates if the cluster has no ServiceMonitors.
func children(endpoint *LLMEndpoint) []*unstructured.Unstructured {
	name := endpoint.Name
	selector := object{endpointLabel: name, componentLabel: "endpoint"}
	metricsPort := object{"name": "metrics", "port": int64(8001), "targetPort": "metrics", "protocol": "TCP"}
	clientPort := object{"name": "http", "port": port(endpoint), "targetPort": "proxy", "protocol": "TCP"}
	return []*unstructured.Unstructured{
		child(endpoint, "v1", "ServiceAccount", name, "identity", object{"automountServiceAccountToken": false}),
		child(endpoint, "v1", "ConfigMap", name, "config", object{"data": object{"models.json": config(endpoint)}}),
		child(endpoint, "v1", "Service", name+"-pods", "pods", object{"spec": object{
			"clusterIP": "None", "publishNotReadyAddresses": true, "selector": selector, "ports": []any{metricsPort},
		}}),
		child(endpoint, "v1", "Service", name, "client", object{"spec": object{
			"type": "ClusterIP", "selector": selector, "ports": []any{clientPort},
		}}),
		child(endpoint, "networking.k8s.io/v1", "NetworkPolicy", name, "network", object{"spec": networkPolicy(selector)}),
		child(endpoint, "apps/v1", "StatefulSet", name, "endpoint", object{"spec": statefulSet(endpoint, selector)}),
	}
}

func port(endpoint *LLMEndpoint) int64 {
	if endpoint.Spec.Service == nil || endpoint.Spec.Service.Port == nil {
		return 11434
	}
	return *endpoint.Spec.Service.Port
}

func child(endpoint *LLMEndpoint, version, kind, name, component string, content object) *unstructured.Unstructured {
	content["apiVersion"], content["kind"] = version, kind
	content["metadata"] = object{
		"name": name, "namespace": endpoint.Namespace, "labels": labelsOf(endpoint, component),
		"ownerReferences": []any{object{
			"apiVersion": groupVersion.String(), "kind": "LLMEndpoint", "name": endpoint.Name,
			"uid": string(endpoint.UID), "controller": true, "blockOwnerDeletion": true,
		}},
	}
	return &unstructured.Unstructured{Object: content}
}

func labelsOf(endpoint *LLMEndpoint, component string) object {
	return object{
		endpointLabel: endpoint.Name, componentLabel: component, managedByLabel: managedBy,
		"app.kubernetes.io/name": "llmendpoint", "app.kubernetes.io/instance": endpoint.Name,
	}
}

func config(endpoint *LLMEndpoint) string {
	models := []object{}
	for _, model := range endpoint.Spec.Models {
		models = append(models, object{"name": model.Name, "load": "Preload"})
	}
	text, err := json.MarshalIndent(object{"models": models, "maxWaiting": 256, "modelManagement": "Forbidden"}, "", "  ")
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s\n", text)
}

func networkPolicy(selector object) object {
	operator := object{
		"namespaceSelector": object{"matchLabels": object{"kubernetes.io/metadata.name": "llmendpoint-system"}},
		"podSelector":       object{"matchLabels": object{"llmendpoint.dev/operator": "true"}},
	}
	return object{
		"podSelector": object{"matchLabels": selector}, "policyTypes": []any{"Ingress"},
		"ingress": []any{
			object{"ports": []any{object{"port": int64(11435), "protocol": "TCP"}}},
			object{"ports": []any{object{"port": int64(8001), "protocol": "TCP"}}, "from": []any{operator}},
		},
	}
}

func statefulSet(endpoint *LLMEndpoint, selector object) object {
	replicas := int64(1)
	if endpoint.Spec.Replicas != nil {
		replicas = *endpoint.Spec.Replicas
	}
	spec := runtime.DeepCopyJSON(pod)
	spec["serviceAccountName"] = endpoint.Name
	volumes := spec["volumes"].([]any)
	volumes[0].(object)["configMap"] = object{"name": endpoint.Name}
	claim := object{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": object{"name": "models"},
		"spec": object{
			"accessModes": []any{"ReadWriteOnce"}, "resources": object{"requests": object{"storage": "50Gi"}},
		},
	}
	return object{
		"replicas": replicas, "serviceName": endpoint.Name + "-pods", "podManagementPolicy": "Parallel",
		"selector":                             object{"matchLabels": selector},
		"persistentVolumeClaimRetentionPolicy": object{"whenDeleted": "Retain", "whenScaled": "Retain"},
		"template":                             object{"metadata": object{"labels": labelsOf(endpoint, "endpoint")}, "spec": spec},
		"volumeClaimTemplates":                 []any{claim},
	}
}
