// Streams OpenAI completions with known latency and as little work as possible: the server of this benchmark.
//
//   server 127.0.0.1:21434 MODEL TTFT_US GAP_US CHUNKS
//
// POST …/chat/completions and …/completions: the first chunk is due TTFT_US microseconds after the last byte of the
// request has arrived, by the kernel's own time of that, and each other chunk GAP_US later, however late the one before
// was. Without "stream": true, the answer is due as a whole when the last chunk would be. GET /simulator/ledger?entries=N
// and DELETE /simulator/ledger are those of the simulator, with the fields that the benchmark reads.
#include "../proxy/common.h"

#include <fcntl.h>

// A burst must not keep requests waiting: after so many chunks, they are read.
#define AT_ONCE 64
#define MAX_REQUEST (8 << 20)

typedef struct {
  int64_t received, due, sent;
  int in_flight;
  enum { RUNNING, COMPLETED, CANCELLED } outcome;
} entry_t;

// The bytes of a stream: the first chunk with the head, the following ones, and what comes with the last one.
typedef struct {
  char first[1024], next[1024], last[2560], whole[1024];
} format_t;

typedef struct {
  int fd;
  char *data;
  size_t filled, room;
  int64_t received, first_due;
  bool streams, is_whole, closes, is_closed;
  const format_t *format;
  int sent;
  size_t entry;
  unsigned epoch;
} connection_t;

static int epoll, timer, in_flight, chunks;
static int64_t started, ttft, gap;
static heap_t due;
static const char *model;
static format_t chat, text;
static entry_t *entries;
static size_t entry_count, entry_room, ended[3];
// Incremented when the ledger is cleared: the entries of streams that continue do not exist then.
static unsigned epoch;

static void end_entry(connection_t *c, int outcome) {
  in_flight--;
  if (c->epoch != epoch) return;
  entries[c->entry].outcome = outcome;
  ended[outcome]++;
}

static void close_connection(connection_t *c) {
  close(c->fd);
  c->is_closed = true;
  // A stream is in the heap still, and is freed when its turn comes.
  if (c->streams) return;
  free(c->data);
  free(c);
}

static bool send_all(connection_t *c, const char *data, size_t length) {
  return send(c->fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

// Ends an answer, and with it the connection if the client asked for that.
static bool end_answer(connection_t *c, bool is_sent) {
  c->streams = false;
  return is_sent && !c->closes;
}

static bool answer(connection_t *c, const char *status, const char *body) {
  char head[256];
  int length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                        status, strlen(body));
  // The ledger may be larger than the buffer of the socket. It is read between the runs.
  int flags = fcntl(c->fd, F_GETFL);
  fcntl(c->fd, F_SETFL, flags & ~O_NONBLOCK);
  bool is_sent = send_all(c, head, (size_t)length) && send_all(c, body, strlen(body));
  fcntl(c->fd, F_SETFL, flags);
  return end_answer(c, is_sent);
}

// ---- the ledger

static double seconds(int64_t at) { return (double)(at - started) / 1e9; }

static bool answer_ledger(connection_t *c, const char *query) {
  static const char *outcomes[] = {"running", "completed", "cancelled"};
  size_t size = 0, wanted = query ? (size_t)atoll(query + strlen("entries=")) : 100;
  char *body = NULL, before[64];
  FILE *file = open_memstream(&body, &size);
  fprintf(file, "{\"accounts\":{\"all\":{\"requests\":%zu,\"completed\":%zu,\"cancelled\":%zu,\"faulted\":0}},\"entries\":[",
          entry_count, ended[COMPLETED], ended[CANCELLED]);
  size_t first = entry_count > wanted ? entry_count - wanted : 0;
  for (size_t i = first; i < entry_count; i++) {
    const entry_t *e = &entries[i];
    if (e->sent) snprintf(before, sizeof before, "%.9f", seconds(e->sent));
    fprintf(file,
            "%s{\"received_at\":%.9f,\"outcome\":\"%s\",\"exactness\":{\"in_flight\":%d,\"first_due_at\":%.9f,"
            "\"first_sent_at\":%s}}",
            i > first ? "," : "", seconds(e->received), outcomes[e->outcome], e->in_flight, seconds(e->due),
            e->sent ? before : "null");
  }
  fprintf(file, "]}");
  fclose(file);
  bool is_open = answer(c, "200 OK", body);
  free(body);
  return is_open;
}

static void clear_ledger(void) {
  entry_count = 0;
  memset(ended, 0, sizeof ended);
  epoch++;
}

static void open_entry(connection_t *c) {
  if (entry_count == entry_room) {
    entry_room = entry_room ? entry_room * 2 : 1024;
    entries = realloc(entries, entry_room * sizeof *entries);
    check(entries != NULL, "memory");
  }
  c->entry = entry_count++;
  c->epoch = epoch;
  entries[c->entry] = (entry_t){.received = c->received, .due = c->first_due, .in_flight = ++in_flight};
}

// ---- answers

// Sends what is due of one answer, and puts it back into the heap.
static void advance(connection_t *c) {
  if (c->is_closed) {
    free(c->data);
    free(c);
    return;
  }
  bool is_last = c->is_whole || c->sent == chunks - 1;
  const char *data = c->is_whole ? c->format->whole : is_last ? c->format->last : c->sent ? c->format->next : c->format->first;
  bool is_open = send_all(c, data, strlen(data));
  if (!c->sent++ && c->epoch == epoch) entries[c->entry].sent = now_ns();
  if (is_open && !is_last) {
    heap_push(&due, c->first_due + c->sent * gap, c);
    return;
  }
  // A client that reads so slowly that the buffer of the socket is full is cut.
  end_entry(c, is_open ? COMPLETED : CANCELLED);
  if (!end_answer(c, is_open)) close_connection(c);
}

static bool complete(connection_t *c, const char *body, const format_t *format) {
  c->format = format;
  c->is_whole = !strstr(body, "\"stream\":true") && !strstr(body, "\"stream\": true");
  c->first_due = c->received + ttft + (c->is_whole ? (chunks - 1) * gap : 0);
  c->sent = 0;
  c->streams = true;
  open_entry(c);
  heap_push(&due, c->first_due, c);
  return true;
}

static bool ends_with(const char *path, const char *end) {
  size_t length = strlen(path), tail = strlen(end);
  return length >= tail && strcmp(path + length - tail, end) == 0;
}

// Answers a request. `line` is "METHOD TARGET", and the body ends with a zero byte.
static bool respond(connection_t *c, char *line, const char *body) {
  char listed[256], *query = strchr(line, '?');
  if (query) *query++ = 0;
  if (strncmp(line, "POST ", 5) == 0 && ends_with(line, "/chat/completions")) return complete(c, body, &chat);
  if (strncmp(line, "POST ", 5) == 0 && ends_with(line, "/completions")) return complete(c, body, &text);
  if (strcmp(line, "GET /simulator/ledger") == 0) return answer_ledger(c, query);
  if (strcmp(line, "DELETE /simulator/ledger") == 0) {
    clear_ledger();
    return answer(c, "200 OK", "");
  }
  snprintf(listed, sizeof listed, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\"}]}", model);
  if (ends_with(line, "/models")) return answer(c, "200 OK", listed);
  if (ends_with(line, "/health")) return answer(c, "200 OK", "{}");
  return ends_with(line, "/api/version") ? answer(c, "200 OK", "{\"version\":\"0.17.4\"}")
                                         : answer(c, "404 Not Found", "{}");
}

// ---- requests

// Receives bytes, and notes when the last of them arrived. Between that and this call, the process may have been late.
static ssize_t receive(connection_t *c) {
  char control[CMSG_SPACE(sizeof(struct timespec))];
  struct iovec buffer = {c->data + c->filled, c->room - c->filled};
  struct msghdr message = {.msg_iov = &buffer, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(c->fd, &message, 0);
  c->received = now_ns();
  for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); got > 0 && part; part = CMSG_NXTHDR(&message, part))
    if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPNS) {
      struct timespec at;
      memcpy(&at, CMSG_DATA(part), sizeof at);
      c->received = at.tv_sec * SECOND + at.tv_nsec;
    }
  return got;
}

// Reads a request. Returns false if the connection has to be closed.
static bool take(connection_t *c) {
  if (c->room - c->filled < 4096) {
    c->room = c->room ? c->room * 2 : 16384;
    c->data = realloc(c->data, c->room);
    check(c->data != NULL, "memory");
  }
  // One byte is for the zero at the end of the body.
  c->room--;
  ssize_t got = receive(c);
  c->room++;
  if (got <= 0) return got < 0 && errno == EAGAIN;
  // Behind the request of a stream, nothing comes but the end of the connection.
  if (c->streams) return false;
  c->filled += (size_t)got;
  char *end = memmem(c->data, c->filled, "\r\n\r\n", 4);
  if (!end) return c->filled < MAX_REQUEST;
  char kept = end[2];
  end[2] = 0;
  const char *value = header_of(c->data, "Content-Length");
  size_t whole = (size_t)(end + 4 - c->data) + (value ? (size_t)atoll(value) : 0);
  bool closes = (value = header_of(c->data, "Connection")) && strncasecmp(value, "close", 5) == 0;
  end[2] = kept;
  if (c->filled < whole) return whole < MAX_REQUEST;
  c->data[c->filled] = 0;
  c->closes = closes;
  c->filled = 0;
  char *target = strchr(c->data, ' ');
  if (!target) return false;
  *(target + 1 + strcspn(target + 1, " \r")) = 0;
  return respond(c, c->data, end + 4);
}

static void on_readable(connection_t *c) {
  if (take(c)) return;
  if (c->streams) end_entry(c, CANCELLED);
  close_connection(c);
}

static void accept_all(int listener) {
  int on = 1;
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    no_delay(fd);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    connection_t *c = calloc(1, sizeof *c);
    check(c != NULL, "memory");
    c->fd = fd;
    watch(epoll, fd, c);
  }
}

// ---- the bytes of the answers

// Writes one chunk of the chunked coding, and returns its end.
static char *framed(char *at, const char *data) { return at + sprintf(at, "%zx\r\n%s\r\n", strlen(data), data); }

// `parts` are what a choice has in a chunk, in the last chunk, and in an answer that is not streamed.
static void write_format(format_t *f, const char *whole_object, const char *object, const char *parts[3]) {
  static const char *event = "{\"id\":\"known-1\",\"object\":\"%s\",\"created\":1795744587,\"model\":\"%s\",\"choices\":[%s]%s}";
  char usage[128], choice[256], line[512], data[640], tail[1536];
  snprintf(usage, sizeof usage, ",\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%d,\"total_tokens\":%d}", chunks,
           20 + chunks);
  snprintf(choice, sizeof choice, "{\"index\":0,\"finish_reason\":null,%s}", parts[0]);
  snprintf(line, sizeof line, event, object, model, choice, "");
  snprintf(data, sizeof data, "data: %s\n\n", line);
  framed(f->next, data);
  framed(f->first + sprintf(f->first, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"),
         data);
  // The reason for the end and the usage come with the last token.
  char *at = tail;
  snprintf(choice, sizeof choice, "{\"index\":0,\"finish_reason\":\"stop\",%s}", parts[1]);
  snprintf(line, sizeof line, event, object, model, choice, "");
  at += sprintf(at, "data: %s\n\n", line);
  snprintf(line, sizeof line, event, object, model, "", usage);
  sprintf(at, "data: %s\n\ndata: [DONE]\n\n", line);
  strcpy(framed(framed(f->last, data), tail), "0\r\n\r\n");
  snprintf(choice, sizeof choice, "{\"index\":0,\"finish_reason\":\"stop\",%s}", parts[2]);
  snprintf(line, sizeof line, event, whole_object, model, choice, usage);
  snprintf(f->whole, sizeof f->whole, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
           strlen(line), line);
}

int main(int argc, char **argv) {
  check(argc == 6, "usage: server ADDRESS:PORT MODEL TTFT_US GAP_US CHUNKS");
  model = argv[2];
  ttft = atoll(argv[3]) * 1000;
  gap = atoll(argv[4]) * 1000;
  chunks = atoi(argv[5]);
  started = now_ns();
  const char *chat_parts[] = {"\"delta\":{\"role\":\"assistant\",\"content\":\"token \"}",
                              "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}",
                              "\"message\":{\"role\":\"assistant\",\"content\":\"token\"}"};
  const char *text_parts[] = {"\"text\":\"token \"", "\"text\":\"\"", "\"text\":\"token\""};
  write_format(&chat, "chat.completion", "chat.completion.chunk", chat_parts);
  write_format(&text, "text_completion", "text_completion", text_parts);
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
      else if (what != &timer) on_readable(what);
    }
    for (int i = 0; i < AT_ONCE && due.count && due.entries[0].due <= now_ns(); i++) advance(heap_pop(&due));
  }
}
