/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* strsignal, SOCK_CLOEXEC */
#include "text/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LARGEST_ANSWER = 1 << 30 }; /* bytes; more is a program gone wild */

/* ------------------------------------------------------------------ start */

/* Its input and output are `fd`; SIGINT is blocked there, and everything
 * else as for a fresh program. Returns what posix_spawnp does. */
static int spawn(child *c, char *const argv[], int fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed)
        return failed;
    failed = posix_spawnattr_init(&attributes);
    if (!failed) {
        failed = posix_spawn_file_actions_adddup2(&actions, fd, 0);
        if (!failed)
            failed = posix_spawn_file_actions_adddup2(&actions, 0, 1);
        if (!failed)
            failed = posix_spawnattr_setsigmask(&attributes, &mask);
        if (!failed)
            failed =
                posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        if (!failed)
            failed = posix_spawnp(&c->pid, argv[0], &actions, &attributes, argv,
                                  environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

int child_start(child *c,
                const char *name,
                char *const argv[],
                text_error *error)
{
    *c = (child){.name = name, .fd = -1};
    int ends[2];
    /* A socket rather than pipes: sending to one that is closed need not
     * raise SIGPIPE. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return text_fail(error, TEXT_FAILED, "%s: no socket: %s", name,
                         strerror(errno));
    int failed = spawn(c, argv, ends[1]);
    close(ends[1]);
    c->fd = ends[0];
    if (failed) {
        c->pid = 0;
        child_stop(c);
        return text_fail(error, TEXT_FAILED, "%s cannot be started: %s",
                         argv[0], strerror(failed));
    }
    return TEXT_OK;
}

/* ------------------------------------------------------------------- stop */

/* Wait for the end of the program; its status as of waitpid, or -1. */
static int collect(child *c)
{
    int status = -1;
    while (c->pid > 0 && waitpid(c->pid, &status, 0) < 0)
        if (errno != EINTR)
            break;
    c->pid = 0;
    return status;
}

void child_stop(child *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        collect(c);
    }
    free(c->answer);
    *c = (child){.name = c->name, .fd = -1};
}

/* It closed its end: say how it ended. One that lives on without its input
 * and output is of no use. */
static int ended(child *c, text_error *error)
{
    kill(c->pid, SIGKILL);
    int status = collect(c);
    if (WIFSIGNALED(status))
        return text_fail(error, TEXT_FAILED, "%s ended without an answer: %s",
                         c->name, strsignal(WTERMSIG(status)));
    return text_fail(error, TEXT_FAILED,
                     "%s ended without an answer, exit status %d", c->name,
                     WEXITSTATUS(status));
}

/* -------------------------------------------------------------------- ask */

static int send_some(child *c, const char *line, size_t n, size_t *sent)
{
    ssize_t k =
        send(c->fd, line + *sent, n - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (k > 0)
        *sent += (size_t)k;
    return k >= 0 || errno == EINTR || errno == EAGAIN;
}

/* Read what there is. `line_end` is set when the answer is complete. */
static int receive_some(child *c, char **line_end, text_error *error)
{
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 1 << 16;
        char *bytes =
            capacity <= LARGEST_ANSWER ? realloc(c->answer, capacity) : NULL;
        if (!bytes)
            return text_fail(error, TEXT_FAILED,
                             "%s: no memory for an answer of more than %zu "
                             "bytes",
                             c->name, c->n);
        c->answer = bytes;
        c->capacity = capacity;
    }
    ssize_t k = recv(c->fd, c->answer + c->n, c->capacity - c->n, MSG_DONTWAIT);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return TEXT_OK;
    if (k <= 0)
        return ended(c, error);
    *line_end = memchr(c->answer + c->n, '\n', (size_t)k);
    c->n += (size_t)k;
    return TEXT_OK;
}

static int exchange(
    child *c, const char *line, size_t n, char **line_end, text_error *error)
{
    size_t sent = 0;
    int open = 1; /* it still reads; an answer may come when it does not */
    c->n = 0;
    *line_end = NULL;
    while (!*line_end) {
        short wanted = open && sent < n ? POLLIN | POLLOUT : POLLIN;
        struct pollfd ready = {.fd = c->fd, .events = wanted};
        if (poll(&ready, 1, -1) < 0) {
            if (errno == EINTR)
                continue;
            return text_fail(error, TEXT_FAILED, "%s: poll: %s", c->name,
                             strerror(errno));
        }
        if (ready.revents & POLLOUT)
            open = send_some(c, line, n, &sent);
        if (ready.revents & ~POLLOUT) {
            int status = receive_some(c, line_end, error);
            if (status != TEXT_OK)
                return status;
        }
    }
    return TEXT_OK;
}

static int
take_answer(child *c, const char *line_end, json_t **answer, text_error *error)
{
    json_error_t why;
    json_t *root = json_loadb(c->answer, (size_t)(line_end - c->answer),
                              JSON_ALLOW_NUL, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return text_fail(error, TEXT_FAILED,
                         "%s answered what is not a JSON object", c->name);
    }
    const char *sentence = json_string_value(json_object_get(root, "error"));
    if (sentence) {
        text_fail(error, TEXT_INPUT, "%s", sentence);
        json_decref(root);
        return TEXT_INPUT;
    }
    *answer = root;
    return TEXT_OK;
}

int child_ask(child *c,
              const json_t *request,
              json_t **answer,
              text_error *error)
{
    *answer = NULL;
    if (c->pid == 0)
        return text_fail(error, TEXT_FAILED, "%s has ended", c->name);
    char *line = json_dumps(request, JSON_COMPACT);
    if (!line)
        return text_fail(error, TEXT_FAILED, "%s: out of memory for a request",
                         c->name);
    size_t n = strlen(line);
    line[n] = '\n'; /* in place of the terminator */
    char *line_end;
    int status = exchange(c, line, n + 1, &line_end, error);
    free(line);
    return status ? status : take_answer(c, line_end, answer, error);
}
