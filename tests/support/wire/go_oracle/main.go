// Command go_oracle tells how Ollama reads request bodies and model names: it decodes them with Ollama's own types and
// Go's standard library. It reads one JSON object per line and writes one per line.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/ollama/ollama/anthropic"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/openai"
	"github.com/ollama/ollama/types/model"
)

// Question is a body (JSON, zstd or form) or a list of names.
type Question struct {
	Kind        string   `json:"kind"`
	Body        []byte   `json:"body"`
	ContentType string   `json:"contentType"`
	Query       string   `json:"query"`
	Names       []string `json:"names"`
}

// Answer lists the models that the request types found, without those types that refuse the body. Exact is the value of
// the field that is spelled exactly "model". Chat, Stream and Usage are what OpenAI's chat completion request holds.
type Answer struct {
	Models   []string `json:"models"`
	Accepted int      `json:"accepted"`
	Exact    string   `json:"exact"`
	Chat     bool     `json:"chat"`
	Stream   bool     `json:"stream"`
	Usage    bool     `json:"usage"`
	Names    []Name   `json:"names,omitempty"`
}

// Name is a parsed model name. SameAs is the index of the first name in the list that Ollama takes for the same model.
type Name struct {
	Name    string `json:"name"`
	Display string `json:"display"`
	Valid   bool   `json:"valid"`
	SameAs  int    `json:"sameAs"`
}

func decode(r io.Reader, v any) bool {
	return json.NewDecoder(r).Decode(v) == nil
}

func readJSON(body []byte) Answer {
	var answer Answer
	add := func(name string) {
		answer.Accepted++
		for _, known := range answer.Models {
			if known == name {
				return
			}
		}
		answer.Models = append(answer.Models, name)
	}
	var generate api.GenerateRequest
	if decode(bytes.NewReader(body), &generate) {
		add(generate.Model)
	}
	var chat api.ChatRequest
	if decode(bytes.NewReader(body), &chat) {
		add(chat.Model)
	}
	var embed api.EmbedRequest
	if decode(bytes.NewReader(body), &embed) {
		add(embed.Model)
	}
	var embedding api.EmbeddingRequest
	if decode(bytes.NewReader(body), &embedding) {
		add(embedding.Model)
	}
	var completion openai.CompletionRequest
	if decode(bytes.NewReader(body), &completion) {
		add(completion.Model)
	}
	var openaiEmbed openai.EmbedRequest
	if decode(bytes.NewReader(body), &openaiEmbed) {
		add(openaiEmbed.Model)
	}
	var image openai.ImageGenerationRequest
	if decode(bytes.NewReader(body), &image) {
		add(image.Model)
	}
	var edit openai.ImageEditRequest
	if decode(bytes.NewReader(body), &edit) {
		add(edit.Model)
	}
	var responses openai.ResponsesRequest
	if decode(bytes.NewReader(body), &responses) {
		add(responses.Model)
	}
	var messages anthropic.MessagesRequest
	if decode(bytes.NewReader(body), &messages) {
		add(messages.Model)
	}
	var openaiChat openai.ChatCompletionRequest
	if decode(bytes.NewReader(body), &openaiChat) {
		add(openaiChat.Model)
		answer.Chat = true
		answer.Stream = openaiChat.Stream
		answer.Usage = openaiChat.StreamOptions != nil && openaiChat.StreamOptions.IncludeUsage
	}
	var fields map[string]json.RawMessage
	if decode(bytes.NewReader(body), &fields) {
		json.Unmarshal(fields["model"], &answer.Exact)
	}
	return answer
}

// readZstd decompresses as middleware.ResponsesMiddleware does.
func readZstd(body []byte) Answer {
	var answer Answer
	reader, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderMaxMemory(8<<20))
	if err != nil {
		return answer
	}
	defer reader.Close()
	var responses openai.ResponsesRequest
	if decode(reader, &responses) {
		answer.Accepted++
		answer.Models = []string{responses.Model}
	}
	return answer
}

// readForm reads the field `model` as the transcription route of newer versions does.
func readForm(q Question) Answer {
	var answer Answer
	request := &http.Request{
		Method: http.MethodPost,
		Header: http.Header{"Content-Type": {q.ContentType}},
		URL:    &url.URL{Path: "/v1/audio/transcriptions", RawQuery: q.Query},
		Body:   io.NopCloser(bytes.NewReader(q.Body)),
	}
	if request.ParseMultipartForm(25<<20) != nil {
		return answer
	}
	if name := request.FormValue("model"); name != "" {
		answer.Accepted++
		answer.Models = []string{name}
	}
	return answer
}

func readNames(names []string) Answer {
	var answer Answer
	var parsed []model.Name
	for index, text := range names {
		name := model.ParseName(text)
		same := index
		for other, known := range parsed {
			if known.EqualFold(name) {
				same = other
				break
			}
		}
		parsed = append(parsed, name)
		answer.Names = append(answer.Names, Name{text, name.DisplayShortest(), name.IsValid(), same})
	}
	return answer
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var question Question
			if err := json.Unmarshal(line, &question); err != nil {
				panic(err)
			}
			var answer Answer
			switch question.Kind {
			case "json":
				answer = readJSON(question.Body)
			case "zstd":
				answer = readZstd(question.Body)
			case "form":
				answer = readForm(question)
			case "names":
				answer = readNames(question.Names)
			}
			if err := answers.Encode(answer); err != nil {
				panic(err)
			}
		}
		if err != nil {
			return
		}
	}
}
