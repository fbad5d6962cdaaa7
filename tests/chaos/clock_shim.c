/* A wall clock that is wrong and a monotonic one that goes too fast, for a process that is started with this preloaded.
 *
 * CHAOS_CLOCK names a file of five 64-bit integers, mapped by the process and written by the harness at any time:
 *
 *     version: odd while the others are being written
 *     offset of the wall clock, ns
 *     speed of the monotonic clock in thousandths: 1000 is right
 *     anchor: at this true monotonic time, ns
 *     shown:  the clock showed this, ns
 *
 * Only what a clock reads is changed. Waits (poll, epoll, nanosleep) are the kernel's and take their true time. Those that
 * end at a time of the monotonic clock, as Python's do, are made to end when that is as far away in truth as it is shown.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define FIELDS 5

enum { VERSION, WALL_OFFSET, SPEED, ANCHOR, SHOWN };

static const volatile int64_t *settings;

__attribute__((constructor)) static void open_settings(void)
{
    const char *path = getenv("CHAOS_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, FIELDS * sizeof *settings, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        settings = mapped;
    close(file);
}

static void put(struct timespec *time, int64_t ns)
{
    time->tv_sec = ns / NS;
    time->tv_nsec = ns % NS;
}

static int64_t scaled(int64_t ns)
{
    for (;;) {
        int64_t version = __atomic_load_n(&settings[VERSION], __ATOMIC_ACQUIRE);
        int64_t shown = settings[SHOWN] + (ns - settings[ANCHOR]) * settings[SPEED] / 1000;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (version % 2 == 0 && version == settings[VERSION])
            return shown;
    }
}

/* The harness reads the time before it writes a new anchor. Whoever reads in between must not see the clock go back. */
static int64_t monotonic(int64_t ns)
{
    static int64_t latest;
    int64_t shown = scaled(ns);
    int64_t before = __atomic_load_n(&latest, __ATOMIC_RELAXED);
    while (before < shown)
        if (__atomic_compare_exchange_n(&latest, &before, shown, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return shown;
    return before;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed || settings == NULL)
        return failed;
    int64_t ns = time->tv_sec * NS + time->tv_nsec;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        put(time, ns + settings[WALL_OFFSET]);
    else if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE)
        put(time, monotonic(ns));
    return 0;
}

static int64_t true_monotonic(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS + now.tv_nsec;
}

/* How long it is, from now on, until the clock that is shown would show a time if it went right. */
static int64_t left_until(const struct timespec *shown, int64_t now)
{
    int64_t left = shown->tv_sec * NS + shown->tv_nsec - monotonic(now);
    return left > 0 ? left : 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *remains)
{
    struct timespec left = *until;
    if (settings != NULL && clock == CLOCK_MONOTONIC && flags & TIMER_ABSTIME) {
        put(&left, left_until(until, true_monotonic()));
        flags = 0;
    }
    return syscall(SYS_clock_nanosleep, clock, flags, &left, remains) == 0 ? 0 : errno;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    int (*wait)(sem_t *, clockid_t, const struct timespec *) =
        (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec truly = *until;
    if (settings != NULL && clock == CLOCK_MONOTONIC) {
        int64_t now = true_monotonic();
        put(&truly, now + left_until(until, now));
    }
    return wait(semaphore, clock, &truly);
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where != NULL)
        *where = now.tv_sec;
    return now.tv_sec;
}
