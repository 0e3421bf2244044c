//go:build tools

// Package tools keeps the module of kube-router, whose command scripts/… builds, in go.mod.
package tools

import _ "github.com/cloudnativelabs/kube-router/v2/pkg/cmd"
