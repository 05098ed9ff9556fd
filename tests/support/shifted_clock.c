/* The machine's wall clock, moved by what stands in a file: for a server whose clock is to jump.

   Loaded before the C library (LD_PRELOAD). The file that SHIFTED_CLOCK names holds one 64-bit
   number of microseconds; it is mapped, so a change holds at once. Monotonic clocks are left alone.
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift;

__attribute__((constructor)) static void map_the_file(void)
{
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        shift = mapped;
    close(file);
}

static int64_t shifted_us(int64_t seconds, int64_t us)
{
    return seconds * 1000000 + us + (shift ? *shift : 0);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t us = shifted_us(now->tv_sec, now->tv_nsec / 1000);
        now->tv_sec = us / 1000000;
        now->tv_nsec = us % 1000000 * 1000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec real;
    int failed = clock_gettime(CLOCK_REALTIME, &real);
    if (!failed) {
        now->tv_sec = real.tv_sec;
        now->tv_usec = real.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *at)
{
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    if (at)
        *at = real.tv_sec;
    return real.tv_sec;
}
