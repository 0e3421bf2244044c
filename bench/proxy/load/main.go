// Command load drives one proxy and prints what it measured as JSON. Exactness is part of the measurement:
// a stream that has not all its lines, or an answer that is not whole, is an error.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

type result struct {
	Requests  int     `json:"requests"`
	Chunks    int     `json:"chunks"`
	Errors    int     `json:"errors"`
	TTFTp50   float64 `json:"ttft_p50_ms"`
	TTFTp99   float64 `json:"ttft_p99_ms"`
	LagP50    float64 `json:"lag_p50_ms"`
	LagP99    float64 `json:"lag_p99_ms"`
	LagMax    float64 `json:"lag_max_ms"`
	Seconds   float64 `json:"seconds"`
	LastError string  `json:"last_error,omitempty"`
}

type shared struct {
	sync.Mutex
	result
	ttft, lag []float64
}

var body = []byte(`{"model":"bench:latest","messages":[{"role":"user","content":"hello"}],"stream":true}`)

func main() {
	url := flag.String("url", "", "base URL")
	mode := flag.String("mode", "paced", "paced or requests")
	streams := flag.Int("streams", 100, "connections")
	chunks := flag.Int("chunks", 100, "chunks of a stream")
	interval := flag.Duration("interval", 20*time.Millisecond, "between chunks")
	seconds := flag.Float64("seconds", 5, "how long, for requests")
	rounds := flag.Int("rounds", 1, "streams one after another on each connection, for paced")
	flag.Parse()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8192, MaxConnsPerHost: 0, DisableCompression: true}}
	var all shared
	var group sync.WaitGroup
	begin := time.Now()
	deadline := begin.Add(time.Duration(*seconds * float64(time.Second)))
	for i := 0; i < *streams; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			if *mode == "requests" {
				ask(client, *url, deadline, &all)
				return
			}
			// Streams begin spread over one interval, as users do.
			time.Sleep(*interval * time.Duration(i) / time.Duration(*streams))
			for round := 0; round < *rounds; round++ {
				stream(client, *url, *chunks, *interval, &all)
			}
		}(i)
	}
	group.Wait()
	all.Seconds = time.Since(begin).Seconds()
	all.TTFTp50, all.TTFTp99 = at(all.ttft, 0.5), at(all.ttft, 0.99)
	all.LagP50, all.LagP99, all.LagMax = at(all.lag, 0.5), at(all.lag, 0.99), at(all.lag, 1)
	json.NewEncoder(os.Stdout).Encode(all.result)
}

func at(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sort.Float64s(values)
	return values[min(len(values)-1, int(share*float64(len(values))))]
}

func ask(client *http.Client, url string, deadline time.Time, all *shared) {
	count, failed, last := 0, 0, ""
	for time.Now().Before(deadline) {
		response, err := client.Post(url+"/api/chat", "application/json", bytes.NewReader(body))
		if err != nil {
			failed, last = failed+1, err.Error()
			continue
		}
		data, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 || !bytes.Contains(data, []byte(`"done":true`)) {
			failed, last = failed+1, fmt.Sprint(response.StatusCode, err)
			continue
		}
		count++
	}
	all.Lock()
	defer all.Unlock()
	all.Requests += count
	all.Errors += failed
	if last != "" {
		all.LastError = last
	}
}

func stream(client *http.Client, url string, chunks int, interval time.Duration, all *shared) {
	request, _ := http.NewRequest("POST", url+"/api/chat", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Chunks", strconv.Itoa(chunks))
	request.Header.Set("X-Interval", interval.String())
	sent := time.Now()
	response, err := client.Do(request)
	seen, lags, ttft, done := 0, make([]float64, 0, chunks), 0.0, false
	if err == nil {
		reader := bufio.NewReaderSize(response.Body, 4096)
		for {
			line, readErr := reader.ReadSlice('\n')
			now := time.Now()
			if bytes.Contains(line, []byte(`"done":true`)) {
				done = true
			} else if len(line) > 0 {
				if seen == 0 {
					ttft = float64(now.Sub(sent)) / 1e6
				}
				seen++
				lags = append(lags, float64(now.UnixNano()-stamp(line))/1e6)
			}
			if readErr != nil {
				if readErr != io.EOF {
					err = readErr
				}
				break
			}
		}
		response.Body.Close()
	}
	all.Lock()
	defer all.Unlock()
	if err != nil || seen != chunks || !done {
		all.Errors++
		all.LastError = fmt.Sprint(err, " ", seen, " chunks")
		return
	}
	all.Requests++
	all.Chunks += seen
	all.ttft = append(all.ttft, ttft)
	all.lag = append(all.lag, lags...)
}

func stamp(line []byte) int64 {
	at := bytes.LastIndex(line, []byte(`"sent":`))
	value := line[at+len(`"sent":`):]
	end := bytes.IndexByte(value, '}')
	number, _ := strconv.ParseInt(string(value[:end]), 10, 64)
	return number
}
