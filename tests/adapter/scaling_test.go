// Package adapter reads the rules for prometheus-adapter in docs/scaling.md with the adapter's own code.
package adapter

import (
	"os"
	"regexp"
	"strings"
	"testing"

	pmodel "github.com/prometheus/common/model"
	"gopkg.in/yaml.v2"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	prom "sigs.k8s.io/prometheus-adapter/pkg/client"
	"sigs.k8s.io/prometheus-adapter/pkg/config"
	"sigs.k8s.io/prometheus-adapter/pkg/naming"
)

const page = "../../docs/scaling.md"

// wanted has the query of each metric that the HorizontalPodAutoscaler of an endpoint asks for
// (operator/llmendpoint_operator/endpoint/resources/autoscaler.py).
var wanted = map[string]string{
	"llmendpoint_requests_in_flight": `sum(avg_over_time(llmendpoint_num_requests_running{llmendpoint="assistant",namespace="models"}[1m])) by () + ` +
		`sum(avg_over_time(llmendpoint_num_requests_waiting{llmendpoint="assistant",namespace="models"}[1m])) by ()`,
	"llmendpoint_requests_waiting": `sum(avg_over_time(llmendpoint_num_requests_waiting{llmendpoint="assistant",namespace="models"}[1m])) by ()`,
}

// rules returns the rules of the page, which are values of the adapter's chart, as the adapter's configuration has them.
func rules(t *testing.T) []config.DiscoveryRule {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(rules:\n  external:\n.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal(page + " has no block with rules.external")
	}
	var values struct {
		Rules struct {
			External []config.DiscoveryRule `yaml:"external"`
		} `yaml:"rules"`
	}
	if err := yaml.UnmarshalStrict(block[1], &values); err != nil {
		t.Fatal(err)
	}
	document, err := yaml.Marshal(config.MetricsDiscoveryConfig{ExternalRules: values.Rules.External})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := config.FromYAML(document)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.ExternalRules
}

func TestTheAdapterAsksPrometheusForTheLoadOfAnEndpoint(t *testing.T) {
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{{Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, apimeta.RESTScopeRoot)
	namers, err := naming.NamersFromConfig(rules(t), mapper)
	if err != nil {
		t.Fatal(err)
	}
	selector, err := labels.Parse("llmendpoint=assistant")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, namer := range namers {
		// What the adapter finds with the seriesQuery: the name is in it, as there is no filter.
		name := regexp.MustCompile(`__name__="(\w+)"`).FindStringSubmatch(string(namer.Selector()))
		if name == nil {
			t.Fatalf("%s names no series", namer.Selector())
		}
		series := prom.Series{Name: name[1], Labels: pmodel.LabelSet{"namespace": "models", "llmendpoint": "assistant"}}
		if len(namer.FilterSeries([]prom.Series{series})) != 1 {
			t.Errorf("the adapter leaves out %s", series.Name)
		}
		metric, err := namer.MetricNameForSeries(series)
		if err != nil {
			t.Fatal(err)
		}
		query, err := namer.QueryForExternalSeries(series.Name, "models", selector)
		if err != nil {
			t.Fatal(err)
		}
		found[metric] = strings.Join(strings.Fields(string(query)), " ")
	}
	if len(found) != len(wanted) {
		t.Errorf("the adapter serves %d metrics, expected %d", len(found), len(wanted))
	}
	for metric, query := range wanted {
		if found[metric] != query {
			t.Errorf("%s is computed by\n%s\nexpected\n%s", metric, found[metric], query)
		}
	}
}
