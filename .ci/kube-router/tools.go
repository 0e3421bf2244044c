//go:build tools

// Package tools pins kube-router, whose firewall enforces NetworkPolicies in the cluster tests.
package tools

import _ "github.com/cloudnativelabs/kube-router/v2/pkg/cmd"
