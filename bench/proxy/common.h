// What the benchmark's server and load share: time, buffers, sockets and a heap of things that are due.
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static inline int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * SECOND + t.tv_nsec;
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline void check(bool fine, const char *what) {
  if (!fine) die(what);
}

// Parses "ADDRESS:PORT" (IPv4).
static inline struct sockaddr_in address_of(const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  char host[64];
  const char *colon = strrchr(text, ':');
  check(colon && colon - text < (long)sizeof host, "address");
  snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
  check(inet_pton(AF_INET, host, &address.sin_addr) == 1, "address");
  address.sin_port = htons((uint16_t)atoi(colon + 1));
  return address;
}

// Listens at "ADDRESS:PORT" without blocking.
static inline int listener_at(const char *text) {
  struct sockaddr_in address = address_of(text);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
  check(listen(listener, 4096) == 0, "listen");
  return listener;
}

static inline void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// The value of a header in a head that ends with a zero byte; NULL where it is not there.
static inline const char *header_of(const char *head, const char *name) {
  size_t length = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line && line[2] && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
    if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
      const char *value = line + 3 + length;
      while (*value == ' ') value++;
      return value;
    }
  return NULL;
}

// A binary heap of items by the time when they are due.
typedef struct {
  int64_t due;
  void *item;
} due_t;

typedef struct {
  due_t *entries;
  int count, room;
} heap_t;

static inline void heap_push(heap_t *heap, int64_t due, void *item) {
  if (heap->count == heap->room) {
    heap->room = heap->room ? heap->room * 2 : 1024;
    heap->entries = realloc(heap->entries, sizeof(due_t) * (size_t)heap->room);
    check(heap->entries != NULL, "memory");
  }
  int at = heap->count++;
  while (at > 0 && heap->entries[(at - 1) / 2].due > due) {
    heap->entries[at] = heap->entries[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap->entries[at] = (due_t){due, item};
}

static inline void *heap_pop(heap_t *heap) {
  void *item = heap->entries[0].item;
  due_t last = heap->entries[--heap->count];
  int at = 0;
  for (;;) {
    int child = 2 * at + 1;
    if (child >= heap->count) break;
    if (child + 1 < heap->count && heap->entries[child + 1].due < heap->entries[child].due) child++;
    if (heap->entries[child].due >= last.due) break;
    heap->entries[at] = heap->entries[child];
    at = child;
  }
  heap->entries[at] = last;
  return item;
}

// Arms a timer of the epoll set for the first thing that is due; epoll's own timeout is too coarse.
static inline void arm(int timer, const heap_t *heap) {
  struct itimerspec at = {0};
  if (heap->count) {
    at.it_value.tv_sec = heap->entries[0].due / SECOND;
    at.it_value.tv_nsec = heap->entries[0].due % SECOND;
  }
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static inline void watch(int epoll, int fd, void *what) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

// Decodes a body in the chunked coding, a piece at a time.
typedef struct {
  enum { SIZE, SIZE_END, DATA, DATA_END, TRAILER, ENDED, BROKEN } state;
  int64_t left;
  bool line_empty;
} chunked_t;

// Calls take(context, bytes, length) for body bytes; returns how many bytes of `data` belonged to the body.
static inline size_t dechunk(chunked_t *body, const char *data, size_t length,
                             void (*take)(void *, const char *, size_t), void *context) {
  size_t at = 0;
  while (at < length && body->state != ENDED && body->state != BROKEN) {
    char c = data[at];
    switch (body->state) {
      case SIZE:
        if (c >= '0' && c <= '9') body->left = body->left * 16 + (c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') body->left = body->left * 16 + ((c | 32) - 'a' + 10);
        else if (c == '\r' || c == ';' || c == ' ') body->state = SIZE_END;
        else body->state = BROKEN;
        at++;
        break;
      case SIZE_END:
        if (c == '\n') {
          body->state = body->left ? DATA : TRAILER;
          body->line_empty = true;
        }
        at++;
        break;
      case DATA: {
        size_t piece = length - at < (size_t)body->left ? length - at : (size_t)body->left;
        take(context, data + at, piece);
        at += piece;
        body->left -= (int64_t)piece;
        if (!body->left) body->state = DATA_END;
        break;
      }
      case DATA_END:
        if (c == '\n') body->state = SIZE;
        else if (c != '\r') body->state = BROKEN;
        at++;
        break;
      case TRAILER:
        if (c == '\n') {
          if (body->line_empty) body->state = ENDED;
          body->line_empty = true;
        } else if (c != '\r') {
          body->line_empty = false;
        }
        at++;
        break;
      default:
        break;
    }
  }
  return at;
}

#endif
