// Command upstream answers like Ollama, with known pacing and as little work as possible: the benchmark's server.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"time"
)

// tags lists the model of the load, and more that make many series.
func tags() string {
	list := `{"models":[{"name":"bench:latest","model":"bench:latest","size":1,"digest":"00"}`
	for i := 0; i < 64; i++ {
		list += fmt.Sprintf(`,{"name":"series-%d:latest","model":"series-%d:latest","size":1,"digest":"00"}`, i, i)
	}
	return list + "]}"
}

func main() {
	listen := flag.String("listen", "127.0.0.1:21434", "address")
	flag.Parse()
	http.HandleFunc("/api/version", text(`{"version":"0.17.4"}`))
	http.HandleFunc("/api/tags", text(tags()))
	http.HandleFunc("/api/ps", text(`{"models":[]}`))
	http.HandleFunc("/api/chat", chat)
	http.HandleFunc("/api/blobs/", blob)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, body)
	}
}

// chat streams `chunks` lines, one each `interval`; each line carries when it was sent. Without chunks it answers at once.
func chat(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	chunks, _ := strconv.Atoi(r.Header.Get("X-Chunks"))
	final := fmt.Sprintf(`{"model":"bench:latest","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",`+
		`"total_duration":1000,"prompt_eval_count":7,"eval_count":%d}`, max(1, chunks))
	if chunks == 0 {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, final)
		return
	}
	interval, _ := time.ParseDuration(r.Header.Get("X-Interval"))
	w.Header().Set("Content-Type", "application/x-ndjson")
	flusher := w.(http.Flusher)
	next := time.Now()
	for i := 0; i < chunks; i++ {
		if i > 0 {
			next = next.Add(interval)
			time.Sleep(time.Until(next))
		}
		fmt.Fprintf(w, `{"model":"bench:latest","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" token"},"done":false,"sent":%d}`+"\n", time.Now().UnixNano())
		flusher.Flush()
		if r.Context().Err() != nil {
			return
		}
	}
	io.WriteString(w, final+"\n")
}

func blob(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	w.Header().Set("X-Received", strconv.FormatInt(n, 10))
	w.WriteHeader(http.StatusCreated)
}
