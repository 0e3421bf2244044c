// Answers like Ollama, with known pacing and as little work as possible: the benchmark's server.
//
//   upstream 127.0.0.1:21434
//
// POST /api/chat streams as many lines as the header X-Chunks says, one each X-Interval-Us microseconds; each line has
// its number and the time when it was sent. Without X-Chunks it answers at once. POST /api/blobs/… takes any upload.
#include "common.h"

#define HEAD_ROOM 16384

typedef struct {
  int fd;
  char head[HEAD_ROOM + 1];
  size_t filled;
  enum { HEAD, BODY, STREAM } state;
  bool is_chunked, is_blob, is_chat, is_closed;
  int64_t left, received;
  chunked_t body;
  int chunks, sent;
  int64_t interval, due;
} connection_t;

static int epoll, timer;
static heap_t due;
static char tags[16384];
static char *upload;

static void close_connection(connection_t *c) {
  close(c->fd);
  // One that streams is in the heap still, and is freed when its turn comes.
  c->is_closed = true;
  if (c->state != STREAM) free(c);
}

static bool write_all(connection_t *c, const char *data, size_t length) {
  // A reader so slow that a socket's buffer is full is no part of any scenario: its stream is cut.
  return send(c->fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool answer(connection_t *c, const char *status, const char *fields, const char *body) {
  char text[HEAD_ROOM + 4096];
  int length = snprintf(text, sizeof text,
                        "HTTP/1.1 %s\r\nContent-Type: application/json; charset=utf-8\r\n"
                        "Date: Wed, 25 Nov 2026 00:00:00 GMT\r\n%sContent-Length: %zu\r\n\r\n%s",
                        status, fields, strlen(body), body);
  c->state = HEAD;
  return write_all(c, text, (size_t)length);
}

static const char *final_line(const connection_t *c) {
  static char text[512];
  snprintf(text, sizeof text,
           "{\"model\":\"bench:latest\",\"created_at\":\"2026-11-25T00:00:00.000000Z\",\"message\":{\"role\":"
           "\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":1000,"
           "\"prompt_eval_count\":7,\"eval_count\":%d}",
           c->chunks ? c->chunks : 1);
  return text;
}

static bool send_line(connection_t *c) {
  char line[512], chunk[640];
  int length = snprintf(line, sizeof line,
                        "{\"model\":\"bench:latest\",\"created_at\":\"2026-11-25T00:00:00.000000Z\",\"message\":{"
                        "\"role\":\"assistant\",\"content\":\" token\"},\"done\":false,\"n\":%d,\"sent\":%lld}\n",
                        c->sent, (long long)now_ns());
  const char *start =
      c->sent ? ""
              : "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\n"
                "Transfer-Encoding: chunked\r\n\r\n";
  length = snprintf(chunk, sizeof chunk, "%s%x\r\n%s\r\n", start, (unsigned)length, line);
  c->sent++;
  return write_all(c, chunk, (size_t)length);
}

static bool end_stream(connection_t *c) {
  char chunk[640];
  const char *line = final_line(c);
  int length = snprintf(chunk, sizeof chunk, "%x\r\n%s\n\r\n0\r\n\r\n", (unsigned)strlen(line) + 1, line);
  c->state = HEAD;
  return write_all(c, chunk, (size_t)length);
}

// Sends what is due of one stream, and puts it back into the heap.
static void advance(connection_t *c) {
  bool fine = !c->is_closed && (c->sent < c->chunks ? send_line(c) : end_stream(c));
  if (!fine) {
    if (!c->is_closed) close(c->fd);
    free(c);
  } else if (c->state == STREAM) {
    // The last line comes with the last token, as it does from Ollama.
    c->due += c->sent < c->chunks ? c->interval : 0;
    heap_push(&due, c->due, c);
  }
}

static bool respond(connection_t *c) {
  char received[64];
  if (c->is_blob) {
    snprintf(received, sizeof received, "X-Received: %lld\r\n", (long long)c->received);
    return answer(c, "201 Created", received, "");
  }
  if (c->is_chat && c->chunks) {
    c->state = STREAM;
    c->sent = 0;
    c->due = now_ns();
    heap_push(&due, c->due, c);
    return true;
  }
  if (c->is_chat) return answer(c, "200 OK", "", final_line(c));
  if (strstr(c->head, " /api/tags")) return answer(c, "200 OK", "", tags);
  if (strstr(c->head, " /api/ps")) return answer(c, "200 OK", "", "{\"models\":[]}");
  return answer(c, "200 OK", "", "{\"version\":\"0.17.4\"}");
}

static void count(void *context, const char *data, size_t length) {
  (void)data;
  ((connection_t *)context)->received += (int64_t)length;
}

static bool take_body(connection_t *c, const char *data, size_t length) {
  if (c->is_chunked) {
    dechunk(&c->body, data, length, count, c);
    if (c->body.state == BROKEN) return false;
    return c->body.state == ENDED ? respond(c) : true;
  }
  c->received += (int64_t)length;
  return c->received >= c->left ? respond(c) : true;
}

static bool begin(connection_t *c, size_t head_length) {
  char rest[HEAD_ROOM];
  size_t extra = c->filled - head_length;
  memcpy(rest, c->head + head_length, extra);
  c->head[head_length - 2] = 0;
  c->filled = 0;
  const char *value = header_of(c->head, "Content-Length");
  c->left = value ? atoll(value) : 0;
  c->is_chunked = header_of(c->head, "Transfer-Encoding") != NULL;
  c->is_blob = strncmp(c->head, "POST /api/blobs/", 16) == 0;
  c->is_chat = strncmp(c->head, "POST /api/chat", 14) == 0;
  c->chunks = (value = header_of(c->head, "X-Chunks")) ? atoi(value) : 0;
  c->interval = (value = header_of(c->head, "X-Interval-Us")) ? atoll(value) * 1000 : 0;
  c->received = 0;
  c->body = (chunked_t){0};
  c->state = BODY;
  if ((value = header_of(c->head, "Expect")) && !write_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return false;
  if (!c->left && !c->is_chunked) return respond(c);
  return extra ? take_body(c, rest, extra) : true;
}

static bool take(connection_t *c) {
  if (c->state == BODY) {
    ssize_t got = recv(c->fd, upload, 1 << 18, 0);
    return got > 0 ? take_body(c, upload, (size_t)got) : got < 0 && errno == EAGAIN;
  }
  // Behind a stream's request nothing comes but the end of the connection.
  ssize_t got = recv(c->fd, c->head + c->filled, HEAD_ROOM - c->filled, 0);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  if (c->state == STREAM) return false;
  c->filled += (size_t)got;
  char *end = memmem(c->head, c->filled, "\r\n\r\n", 4);
  if (!end) return c->filled < HEAD_ROOM;
  return begin(c, (size_t)(end - c->head) + 4);
}

static void accept_all(int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    no_delay(fd);
    connection_t *c = calloc(1, sizeof *c);
    check(c != NULL, "memory");
    c->fd = fd;
    watch(epoll, fd, c);
  }
}

static void list_models(void) {
  // The model of the load, and more that make many series.
  char *at = tags + sprintf(tags, "{\"models\":[{\"name\":\"bench:latest\",\"model\":\"bench:latest\",\"size\":1,\"digest\":\"00\"}");
  for (int i = 0; i < 64; i++)
    at += sprintf(at, ",{\"name\":\"series-%d:latest\",\"model\":\"series-%d:latest\",\"size\":1,\"digest\":\"00\"}", i, i);
  strcpy(at, "]}");
}

int main(int argc, char **argv) {
  check(argc == 2, "usage: upstream ADDRESS:PORT");
  list_models();
  upload = malloc(1 << 18);
  int listener = listener_at(argv[1]);
  epoll = epoll_create1(0);
  timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
  watch(epoll, listener, &listener);
  watch(epoll, timer, &timer);
  struct epoll_event events[512];
  for (;;) {
    arm(timer, &due);
    int ready = epoll_wait(epoll, events, 512, -1);
    for (int i = 0; i < ready; i++) {
      void *what = events[i].data.ptr;
      if (what == &listener) accept_all(listener);
      else if (what != &timer && !take(what)) close_connection(what);
    }
    for (int64_t now = now_ns(); due.count && due.entries[0].due <= now;) advance(heap_pop(&due));
  }
}
