/*
 * Runs a program and counts its system calls that change something on a disk. At the Nth of them it kills the
 * program before the call is made, or lets that call fail. See tests/faults.rs.
 *
 * usage: tracer COUNT-FILE N ERRNO DIR PROGRAM ARG...
 *   N = 0: only count. ERRNO = 0: kill.
 *   Calls on files count if their path begins with DIR; those that make, name or remove files always do.
 *   COUNT-FILE gets one line a call: its number, its name, what it is on. Exit status: 137 if the program was killed
 *   here, else its own. Hooks are other processes, and are left alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "only for x86-64"
#endif

enum { MAX_THREADS = 4096 };
/* Threads whose call is to fail, once it returns. */
static pid_t failing[MAX_THREADS];
static int in_call[MAX_THREADS];
static pid_t threads[MAX_THREADS];
static int thread_count;

static int slot(pid_t tid) {
    for (int i = 0; i < thread_count; i++)
        if (threads[i] == tid) return i;
    if (thread_count == MAX_THREADS) exit(99);
    threads[thread_count] = tid;
    return thread_count++;
}

static const char *dir;

/* What descriptor `fd` of `tid` is on, if that is a file below `dir`. */
static int on_file(pid_t tid, long fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%ld", tid, fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, dir, strlen(dir)) == 0;
}

/* The name of the call, if it changes something. */
static const char *changes(pid_t tid, struct user_regs_struct *r, char *path, size_t size) {
    path[0] = 0;
    switch (r->orig_rax) {
    case SYS_openat:
        return r->rdx & (O_CREAT | O_TRUNC) ? "open" : NULL;
    case SYS_open:
        return r->rsi & (O_CREAT | O_TRUNC) ? "open" : NULL;
    case SYS_mkdir: case SYS_mkdirat: return "mkdir";
    case SYS_rename: case SYS_renameat: case SYS_renameat2: return "rename";
    case SYS_unlink: case SYS_unlinkat: return "unlink";
    case SYS_rmdir: return "rmdir";
    case SYS_symlink: case SYS_symlinkat: return "symlink";
    case SYS_link: case SYS_linkat: return "link";
    case SYS_chmod: case SYS_fchmodat: return "chmod";
    case SYS_utimensat: return "utimens";
    case SYS_write: case SYS_pwrite64: case SYS_writev:
        return on_file(tid, r->rdi, path, size) ? "write" : NULL;
    case SYS_ftruncate: return on_file(tid, r->rdi, path, size) ? "truncate" : NULL;
    case SYS_fallocate: return on_file(tid, r->rdi, path, size) ? "allocate" : NULL;
    case SYS_fchmod: return on_file(tid, r->rdi, path, size) ? "chmod" : NULL;
    case SYS_fsync: case SYS_fdatasync: return on_file(tid, r->rdi, path, size) ? "fsync" : NULL;
    default: return NULL;
    }
}

int main(int argc, char **argv) {
    if (argc < 6) return 98;
    FILE *out = fopen(argv[1], "w");
    long stop_at = atol(argv[2]);
    int error = atoi(argv[3]);
    dir = argv[4];
    if (!out) return 98;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[5], argv + 5);
        _exit(97);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 98;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) < 0)
        return 98;
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    long count = 0;
    int killed = 0;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0) return killed ? 137 : 98;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (tid != child) continue;
            fclose(out);
            if (WIFEXITED(status)) return WEXITSTATUS(status);
            return killed ? 137 : 128 + WTERMSIG(status);
        }
        int sig = WSTOPSIG(status);
        int at = slot(tid);
        if (sig == (SIGTRAP | 0x80)) {
            in_call[at] = !in_call[at];
            struct user_regs_struct r;
            if (ptrace(PTRACE_GETREGS, tid, 0, &r) == 0) {
                char path[4096];
                const char *name = in_call[at] ? changes(tid, &r, path, sizeof path) : NULL;
                if (name) {
                    count++;
                    fprintf(out, "%ld %s %s\n", count, name, path);
                    fflush(out);
                    if (count == stop_at && error == 0) {
                        killed = 1;
                        kill(child, SIGKILL);
                        continue;
                    }
                    if (count == stop_at) {
                        ptrace(PTRACE_POKEUSER, tid, 8 * ORIG_RAX, -1L);
                        failing[at] = 1;
                    }
                } else if (!in_call[at] && failing[at]) {
                    ptrace(PTRACE_POKEUSER, tid, 8 * RAX, (long)-error);
                    failing[at] = 0;
                }
            }
            sig = 0;
        } else if (sig == SIGTRAP || sig == SIGSTOP) {
            /* A thread was made, or has begun. */
            sig = 0;
        }
        ptrace(PTRACE_SYSCALL, tid, 0, sig);
    }
}
