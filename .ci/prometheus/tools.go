//go:build tools

// Package tools pins a Prometheus with Kubernetes discovery, which the one of Debian lacks.
package tools

import _ "github.com/prometheus/prometheus/cmd/prometheus"
