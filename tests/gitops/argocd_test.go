package gitops

import (
	"os"
	"path/filepath"
	"testing"

	"llmendpoint.dev/llmendpoint/tests/gitops/argocd"
)

// healthTests is a health_test.yaml, in Argo CD's format.
type healthTests struct {
	Tests []struct {
		InputPath    string              `json:"inputPath"`
		HealthStatus argocd.HealthStatus `json:"healthStatus"`
	} `json:"tests"`
}

func TestHealthChecks(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(checks, "*", "health.lua"))
	if err != nil || len(scripts) != 3 {
		t.Fatalf("expected three scripts, found %v (%v)", scripts, err)
	}
	for _, path := range scripts {
		folder := filepath.Dir(path)
		script := readScript(t, path)
		var expected healthTests
		read(t, filepath.Join(folder, "health_test.yaml"), &expected)
		for _, row := range expected.Tests {
			for name, libraries := range map[string]argocd.Libraries{"built in": argocd.All, "argocd-cm": argocd.Few} {
				t.Run(filepath.Join(filepath.Base(folder), row.InputPath, name), func(t *testing.T) {
					object := readObject(t, filepath.Join(folder, row.InputPath)).Object
					health, err := argocd.Health(script, object, libraries)
					if err != nil {
						t.Fatal(err)
					}
					if health != row.HealthStatus {
						t.Errorf("health is %+v, expected %+v", health, row.HealthStatus)
					}
				})
			}
		}
	}
}

// Argo CD runs a health check as soon as an object exists, whatever fields it has.
func TestHealthChecksOfObjectsWithoutFields(t *testing.T) {
	for _, kind := range []string{"LLMEndpoint", "LoadTest", "LoadTestSchedule"} {
		script := readScript(t, filepath.Join(checks, kind, "health.lua"))
		for _, status := range []map[string]any{nil, {}, {"conditions": []any{}}, {"observedGeneration": int64(1)}} {
			object := map[string]any{"metadata": map[string]any{"generation": int64(1)}, "spec": map[string]any{}}
			if status != nil {
				object["status"] = status
			}
			health, err := argocd.Health(script, object, argocd.Few)
			if err != nil {
				t.Fatalf("%s with status %v: %v", kind, status, err)
			}
			if kind != "LoadTestSchedule" && health.Status != "Progressing" {
				t.Errorf("%s with status %v is %s, expected Progressing", kind, status, health.Status)
			}
		}
	}
}

func readScript(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
