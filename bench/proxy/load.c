// Drives one proxy and prints what it measured as JSON. Exactness is part of the measurement: a stream that has not
// all its lines in their order, or an answer that is not whole, is an error.
//
//   load 127.0.0.1:21440 paced STREAMS CHUNKS INTERVAL_US ROUNDS
//   load 127.0.0.1:21440 lines STREAMS CHUNKS INTERVAL_US ROUNDS
//   load 127.0.0.1:21440 burst STREAMS CHUNKS INTERVAL_US ROUNDS
//   load 127.0.0.1:21440 connect STREAMS CHUNKS INTERVAL_US ROUNDS
//   load 127.0.0.1:21440 requests CONNECTIONS SECONDS RATE
//
// paced: connections are opened first. Streams begin one after the other, evenly over the time that one of them takes,
// so that requests come while others stream; each connection then asks ROUNDS times in a row.
// lines: as paced, with a server whose lines have neither a number nor a time: they are counted, and their lag is not
// known.
// burst: connections are opened first. All streams of a round begin in the same moment: their requests are sent one
// after the other without a pause. The next round begins a second after the last stream of a round should have ended.
// connect: as burst, but each stream opens a connection of its own in that moment, and closes it at its end.
// requests: connections are opened first. Requests come at RATE per second in total, evenly, or as fast as they are
// answered if RATE is 0.
#include "common.h"

#define ROOM 65536

typedef struct {
  int fd, number, rounds_left, seen;
  enum { HEAD, BODY } state;
  bool is_busy, is_chunked, is_done, is_wrong;
  char head[8192];
  size_t filled;
  int64_t left, sent_at, received_at, due;
  chunked_t body;
  char line[1024];
  size_t line_length;
} connection_t;

typedef struct {
  double *values;
  size_t count, room;
} series_t;

static bool is_paced, is_burst, connects, is_plain;
static struct sockaddr_in address;
static int chunks, interval_us, epoll, open_connections;
static int64_t requests, chunks_seen, reads, errors, deadline, period;
static series_t ttft, lag, latency;
static heap_t due;
static char last_error[128];

static void add(series_t *series, double value) {
  if (series->count == series->room) {
    series->room = series->room ? series->room * 2 : 65536;
    series->values = realloc(series->values, sizeof(double) * series->room);
    check(series->values != NULL, "memory");
  }
  series->values[series->count++] = value;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double at(const series_t *series, double share) {
  if (!series->count) return 0;
  size_t index = (size_t)(share * (double)series->count);
  return series->values[index < series->count ? index : series->count - 1];
}

static void fail(connection_t *c, const char *why) {
  errors++;
  snprintf(last_error, sizeof last_error, "%s (stream %d, %d lines)", why, c->number, c->seen);
}

static void open_connection(connection_t *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  check(connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
  no_delay(c->fd);
  // With thousands of ports in TIME_WAIT, the search for a free one takes longer than a proxy needs for a request.
  struct linger reset = {.l_onoff = 1};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  watch(epoll, c->fd, c);
}

// What the `ollama` client of Python sends, its length another each time.
static void ask(connection_t *c) {
  static const char filler[] = "Tell me, in one sentence, what the capital of France is known for, and why that is so.";
  static unsigned turn;
  char body[512], text[2048], pace[128] = "";
  int words = (int)(turn++ * 7 % (sizeof filler - 1));
  int length = snprintf(body, sizeof body,
                        "{\"model\":\"bench:latest\",\"messages\":[{\"role\":\"user\",\"content\":\"%.*s\"}],\"stream\":%s}",
                        words, filler, is_paced ? "true" : "false");
  if (is_paced) snprintf(pace, sizeof pace, "X-Chunks: %d\r\nX-Interval-Us: %d\r\n", chunks, interval_us);
  length = snprintf(text, sizeof text,
                    "POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nAccept-Encoding: gzip, deflate\r\n"
                    "Connection: keep-alive\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
                    "User-Agent: ollama-python/0.6.1 (x86_64 linux) Python/3.11.7\r\n%sContent-Length: %d\r\n\r\n%s",
                    pace, length, body);
  c->state = HEAD;
  c->filled = c->line_length = 0;
  c->seen = 0;
  c->is_done = c->is_wrong = false;
  c->body = (chunked_t){0};
  c->is_busy = true;
  c->rounds_left--;
  c->sent_at = now_ns();
  if (connects) open_connection(c);
  if (send(c->fd, text, (size_t)length, MSG_NOSIGNAL) != length) fail(c, "send");
}

static void read_line(connection_t *c) {
  c->line[c->line_length] = 0;
  if (strstr(c->line, "\"done\":true")) {
    c->is_done = true;
    return;
  }
  if (is_plain) {
    if (c->seen++ == 0) add(&ttft, (double)(c->received_at - c->sent_at) / 1e6);
    return;
  }
  const char *number = strstr(c->line, "\"n\":"), *sent = strstr(c->line, "\"sent\":");
  if (!number || !sent || atoi(number + 4) != c->seen) {
    c->is_wrong = true;
    return;
  }
  if (c->seen++ == 0) add(&ttft, (double)(c->received_at - c->sent_at) / 1e6);
  add(&lag, (double)(c->received_at - atoll(sent + 7)) / 1e6);
}

static void take_content(void *context, const char *data, size_t length) {
  connection_t *c = context;
  for (size_t i = 0; i < length; i++) {
    if (data[i] == '\n') {
      read_line(c);
      c->line_length = 0;
    } else if (c->line_length < sizeof c->line - 1) {
      c->line[c->line_length++] = data[i];
    }
  }
}

static void drop(connection_t *c) {
  close(c->fd);
  open_connections--;
}

// The end of a stream whose round ends at the same time for all: it waits for the next one.
static void wait_for_round(connection_t *c) {
  if (connects) close(c->fd);
  heap_push(&due, c->due, c);
}

static void finish(connection_t *c) {
  c->is_busy = false;
  if (c->line_length) read_line(c);
  if (c->is_wrong || !c->is_done || (is_paced && c->seen != chunks)) {
    fail(c, "not whole");
  } else {
    requests++;
    chunks_seen += c->seen;
    if (!is_paced) add(&latency, (double)(c->received_at - c->sent_at) / 1e6);
  }
  c->due += period;
  if (is_paced ? c->rounds_left <= 0 : (period ? c->due : c->received_at) >= deadline) drop(c);
  else if (is_burst) wait_for_round(c);
  else if (c->due > c->received_at) heap_push(&due, c->due, c);
  else ask(c);
}

// Returns how many of the bytes were the body's; ends the exchange where it is whole.
static void take_body(connection_t *c, const char *data, size_t length) {
  if (c->is_chunked) {
    dechunk(&c->body, data, length, take_content, c);
    if (c->body.state == BROKEN) {
      fail(c, "chunks");
      drop(c);
    } else if (c->body.state == ENDED) {
      finish(c);
    }
    return;
  }
  take_content(c, data, length);
  c->left -= (int64_t)length;
  if (c->left <= 0) finish(c);
}

static void take_head(connection_t *c, const char *data, size_t length) {
  if (c->filled + length >= sizeof c->head) {
    fail(c, "head");
    drop(c);
    return;
  }
  memcpy(c->head + c->filled, data, length);
  c->filled += length;
  char *end = memmem(c->head, c->filled, "\r\n\r\n", 4);
  if (!end) return;
  char rest[sizeof c->head];
  size_t extra = c->filled - (size_t)(end + 4 - c->head);
  memcpy(rest, end + 4, extra);
  end[2] = 0;
  if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) c->is_wrong = true;
  c->is_chunked = header_of(c->head, "Transfer-Encoding") != NULL;
  const char *value = header_of(c->head, "Content-Length");
  c->left = value ? atoll(value) : 0;
  c->state = BODY;
  if (extra || (!c->is_chunked && !c->left)) take_body(c, rest, extra);
}

static void receive(connection_t *c) {
  static char data[ROOM];
  ssize_t got = recv(c->fd, data, sizeof data, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    if (c->is_busy) fail(c, "cut");
    drop(c);
    return;
  }
  c->received_at = now_ns();
  reads++;
  if (c->state == HEAD) take_head(c, data, (size_t)got);
  else take_body(c, data, (size_t)got);
}

static connection_t *new_connection(int number, int rounds) {
  connection_t *c = calloc(1, sizeof *c);
  check(c != NULL, "memory");
  *c = (connection_t){.number = number, .rounds_left = rounds};
  if (!connects) open_connection(c);
  return c;
}

int main(int argc, char **argv) {
  connects = argc == 7 && strcmp(argv[2], "connect") == 0;
  is_burst = connects || (argc == 7 && strcmp(argv[2], "burst") == 0);
  is_plain = argc == 7 && strcmp(argv[2], "lines") == 0;
  is_paced = is_burst || is_plain || (argc == 7 && strcmp(argv[2], "paced") == 0);
  check(is_paced || (argc == 6 && strcmp(argv[2], "requests") == 0), "usage: see load.c");
  int connections = atoi(argv[3]), rounds = 1;
  int64_t spread = SECOND / 100;
  if (is_paced) {
    chunks = atoi(argv[4]);
    interval_us = atoi(argv[5]);
    rounds = atoi(argv[6]);
    spread = (int64_t)chunks * interval_us * 1000;
    if (is_burst) {
      period = spread + SECOND;
      spread = 0;
    }
  } else if (atoi(argv[5])) {
    spread = period = SECOND * connections / atoi(argv[5]);
  }
  address = address_of(argv[1]);
  epoll = epoll_create1(0);
  connection_t **all = calloc((size_t)connections, sizeof *all);
  for (int i = 0; i < connections; i++) all[i] = new_connection(i, rounds);
  open_connections = connections;
  int64_t begin = now_ns() + SECOND / 20;
  // Evenly, and not in step with the interval of the chunks.
  for (int i = 0; i < connections; i++) {
    all[i]->due = begin + (is_burst ? 0 : spread / connections * i + i * 7919LL);
    heap_push(&due, all[i]->due, all[i]);
  }
  if (!is_paced) deadline = begin + (int64_t)(atof(argv[4]) * SECOND);
  int timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
  watch(epoll, timer, &timer);
  struct epoll_event events[512];
  while (open_connections > 0) {
    arm(timer, &due);
    int ready = epoll_wait(epoll, events, 512, 60000);
    if (ready == 0) {
      snprintf(last_error, sizeof last_error, "nothing came for a minute");
      errors += open_connections;
      break;
    }
    for (int i = 0; i < ready; i++)
      if (events[i].data.ptr != &timer) receive(events[i].data.ptr);
    for (int64_t now = now_ns(); due.count && due.entries[0].due <= now;) ask(heap_pop(&due));
  }
  double seconds = (double)(now_ns() - begin) / SECOND;
  qsort(ttft.values, ttft.count, sizeof(double), compare);
  qsort(lag.values, lag.count, sizeof(double), compare);
  qsort(latency.values, latency.count, sizeof(double), compare);
  printf("{\"requests\":%lld,\"chunks\":%lld,\"reads\":%lld,\"errors\":%lld,\"seconds\":%.3f,\"last_error\":\"%s\","
         "\"ttft_p50_ms\":%.4f,\"ttft_p99_ms\":%.4f,\"lag_p50_ms\":%.4f,\"lag_p99_ms\":%.4f,\"lag_max_ms\":%.4f,"
         "\"latency_p50_ms\":%.4f,\"latency_p99_ms\":%.4f}\n",
         (long long)requests, (long long)chunks_seen, (long long)reads, (long long)errors, seconds, last_error, at(&ttft, 0.5), at(&ttft, 0.99),
         at(&lag, 0.5), at(&lag, 0.99), at(&lag, 1), at(&latency, 0.5), at(&latency, 0.99));
  return 0;
}
