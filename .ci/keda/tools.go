//go:build tools

// Package tools pins the KEDA that the autoscaling test runs.
package tools

import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
)
