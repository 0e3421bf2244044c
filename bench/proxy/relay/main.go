// Command relay is Go's own httputil.ReverseProxy, the engine of the Go peers, flushing each piece.
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:21438", "address")
	upstream := flag.String("upstream", "http://127.0.0.1:21434", "URL")
	idle := flag.Int("idle", 4096, "idle connections to keep; Go's default transport keeps 2")
	flag.Parse()
	target, err := url.Parse(*upstream)
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = *idle
	transport.MaxIdleConns = 4096
	transport.DisableCompression = true
	proxy.Transport = transport
	log.Fatal(http.ListenAndServe(*listen, proxy))
}
