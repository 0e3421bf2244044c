// Package gitops reads the statuses of our resources with the libraries of GitOps tools: kstatus, which Flux and Helm
// use, and Argo CD's Lua. The objects come from test_testdata.py, which renders them with the operator's own functions.
package gitops

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const checks = "../../manifests/argocd/resource_customizations/llmendpoint.dev"

// read parses a YAML file.
func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// readObject parses an object with the number types of a Kubernetes client.
func readObject(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	document, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, document)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object.(*unstructured.Unstructured)
}
