// Command kstatus computes the status of objects as Flux and Helm do.
//
// It reads a List in JSON from standard input, such as the output of `kubectl get -o json`, and writes a line
// "KIND/NAME STATUS MESSAGE" per object.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

func main() {
	log.SetFlags(0)
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, text)
	if err != nil {
		log.Fatal(err)
	}
	list, isList := object.(*unstructured.UnstructuredList)
	if !isList {
		list = &unstructured.UnstructuredList{Items: []unstructured.Unstructured{*object.(*unstructured.Unstructured)}}
	}
	for index := range list.Items {
		item := &list.Items[index]
		result, err := status.Compute(item)
		if err != nil {
			log.Fatalf("%s/%s: %v", item.GetKind(), item.GetName(), err)
		}
		fmt.Printf("%s/%s %s %s\n", item.GetKind(), item.GetName(), result.Status, result.Message)
	}
}
