package gitops

import (
	"path/filepath"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// expectation is a row of testdata/kstatus.yaml.
type expectation struct {
	Path   string        `json:"path"`
	Status status.Status `json:"status"`
}

func TestKstatus(t *testing.T) {
	var expectations []expectation
	read(t, "testdata/kstatus.yaml", &expectations)
	if len(expectations) == 0 {
		t.Fatal("testdata/kstatus.yaml is empty")
	}
	for _, row := range expectations {
		t.Run(row.Path, func(t *testing.T) {
			result, err := status.Compute(readObject(t, filepath.Join(checks, row.Path)))
			if err != nil {
				t.Fatal(err)
			}
			if result.Status != row.Status {
				t.Errorf("kstatus computes %s (%s), expected %s", result.Status, result.Message, row.Status)
			}
		})
	}
}

// An endpoint without replicas has no condition Ready: with any value but True, kstatus never comes to Current, whatever
// the reason is, also if Reconciling and Stalled are False. If this test fails, decision 27 can be changed.
func TestKstatusHasNoReasonForWhichAnObjectThatIsNotReadyIsCurrent(t *testing.T) {
	for _, value := range []string{"False", "Unknown"} {
		object := readObject(t, filepath.Join(checks, "LLMEndpoint/testdata/scaled-to-zero.yaml"))
		conditions, found, err := unstructured.NestedSlice(object.Object, "status", "conditions")
		if err != nil || !found {
			t.Fatal("the object has no conditions: ", err)
		}
		ready := map[string]any{
			"type": "Ready", "status": value, "reason": "ScaledToZero", "message": "spec.replicas is 0.",
			"observedGeneration": object.GetGeneration(), "lastTransitionTime": "2026-01-02T03:04:05Z",
		}
		for name, rows := range map[string][]any{
			"first": append([]any{ready}, conditions...), "last": append(conditions, ready),
		} {
			if err := unstructured.SetNestedSlice(object.Object, rows, "status", "conditions"); err != nil {
				t.Fatal(err)
			}
			result, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if result.Status != status.InProgressStatus {
				t.Errorf("Ready=%s, %s: kstatus computes %s, expected InProgress", value, name, result.Status)
			}
		}
	}
}
