// Package argocd runs health checks in Lua as Argo CD does.
//
// The function Health does what util/lua in Argo CD's repository does with a health.lua: the same Lua, the same
// libraries and the same conversion of the object. Argo CD itself is not a dependency, because its module pulls in half
// of Kubernetes.
package argocd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// HealthStatus is the health that Argo CD shows for an object.
type HealthStatus struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
}

// The health statuses that a script may return.
var statuses = []string{"Unknown", "Progressing", "Healthy", "Suspended", "Degraded", "Missing"}

// Libraries says which of Lua's libraries a script can use.
type Libraries bool

const (
	// Few are the libraries for a script in the ConfigMap argocd-cm.
	Few Libraries = false
	// All are the libraries for a script that is part of Argo CD.
	All Libraries = true
)

// Health runs a health check on an object.
func Health(script string, object map[string]any, libraries Libraries) (HealthStatus, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: libraries == Few})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return HealthStatus{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(ctx)
	text, err := json.Marshal(object)
	if err != nil {
		return HealthStatus{}, err
	}
	// All numbers of Lua are floating-point, as those of JSON.
	decoded, err := luajson.Decode(state, text)
	if err != nil {
		return HealthStatus{}, err
	}
	state.SetGlobal("obj", decoded)
	if err := state.DoString(script); err != nil {
		return HealthStatus{}, err
	}
	return returned(state.Get(-1))
}

func returned(value lua.LValue) (HealthStatus, error) {
	var health HealthStatus
	if value.Type() != lua.LTTable {
		return health, fmt.Errorf("the script returned a %s, not a table", value.Type())
	}
	text, err := luajson.Encode(value)
	if err != nil {
		return health, err
	}
	if err := json.Unmarshal(text, &health); err != nil {
		return health, err
	}
	if !slices.Contains(statuses, health.Status) {
		return health, fmt.Errorf("%q is not a health status", health.Status)
	}
	return health, nil
}
