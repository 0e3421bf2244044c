package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "llmendpoint.dev", Version: "v1alpha1"}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &LLMEndpoint{}, &LLMEndpointList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}

// LLMEndpoint has only the fields of the resource that the benchmark uses.
type LLMEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

type Spec struct {
	Models   []Model `json:"models"`
	Replicas *int64  `json:"replicas,omitempty"`
	Service  *struct {
		Port *int64 `json:"port,omitempty"`
	} `json:"service,omitempty"`
}

type Model struct {
	Name string `json:"name"`
}

type Status struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	URL                string             `json:"url,omitempty"`
	Replicas           int64              `json:"replicas"`
	ReadyReplicas      int64              `json:"readyReplicas"`
	Selector           string             `json:"selector,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type LLMEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LLMEndpoint `json:"items"`
}

func (e *LLMEndpoint) DeepCopyObject() runtime.Object {
	return e.DeepCopy()
}

func (e *LLMEndpoint) DeepCopy() *LLMEndpoint {
	copied := *e
	e.ObjectMeta.DeepCopyInto(&copied.ObjectMeta)
	copied.Spec.Models = append([]Model(nil), e.Spec.Models...)
	copied.Status.Conditions = append([]metav1.Condition(nil), e.Status.Conditions...)
	return &copied
}

func (l *LLMEndpointList) DeepCopyObject() runtime.Object {
	copied := &LLMEndpointList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy()}
	for index := range l.Items {
		copied.Items = append(copied.Items, *l.Items[index].DeepCopy())
	}
	return copied
}
