package gitops

import (
	"path/filepath"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
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
