/*
 * How many bits a processor compares and counts, and how many floats it multiplies and adds, in a second at most,
 * with the instructions of net_count and net_dot: all operands lie in registers. Not part of a program.
 */
#include <stdio.h>
#include <time.h>

/* The compiler must take it for another value from here on. */
#if defined(NET_AVX512)
#define NET_OTHER(x) __asm__ volatile("" : "+v"(x))
#elif defined(__x86_64__) || defined(__i386__)
#define NET_OTHER(x) __asm__ volatile("" : "+x"(x))
#elif defined(__aarch64__) || defined(NET_NEON)
#define NET_OTHER(x) __asm__ volatile("" : "+w"(x))
#else
#define NET_OTHER(x) __asm__ volatile("" : "+r"(x))
#endif
#if defined(NET_AVX512) || defined(NET_AVX2) || defined(NET_NEON)
#define NET_OTHER_SUMS(x) NET_OTHER(x)
#else
#define NET_OTHER_SUMS(x) __asm__ volatile("" : "+r"(x))
#endif
#if defined(NET_AVX2)
#define NET_OTHER_PIXEL(x) NET_OTHER((x).low); NET_OTHER((x).high)
#else
#define NET_OTHER_PIXEL(x) NET_OTHER_SUMS(x)
#endif
#if defined(NET_AVX512)
#define NET_SOME_FILTERS(f) net_load_64(f, f)
#elif defined(NET_AVX2)
#define NET_SOME_FILTERS(f) NET_LOAD_32(f, 0, 0)
#else
#define NET_SOME_FILTERS(f) NET_LOAD(f)
#endif

#define NET_PEAK_LOOPS 10000

static double net_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void net_peak_bits(const uint8_t *bytes)
{
    net_filters filters[2];
    net_pixel pixel = NET_PIXEL(NET_CODE(bytes[0]));
    net_sums sums[8];
    int i, j;
    filters[0] = NET_SOME_FILTERS(bytes);
    filters[1] = NET_SOME_FILTERS(bytes + 32);
    NET_UNROLL for (j = 0; j < 8; ++j) sums[j] = NET_ZERO;
    for (i = 0; i < NET_PEAK_LOOPS; ++i) {
        NET_UNROLL for (j = 0; j < 8; ++j)
        {
            NET_OTHER_PIXEL(pixel);
            sums[j] = net_differ(sums[j], filters[j % 2], pixel);
            NET_OTHER_SUMS(sums[j]);
        }
    }
}

static void net_peak_floats(const float *values)
{
    net_float sums[10], x = NET_FLOAT_FILL(values[0]), y = NET_FLOAT_FILL(values[1]);
    int i, j;
    NET_UNROLL for (j = 0; j < 10; ++j) sums[j] = NET_FLOAT_FILL(0.0f);
    for (i = 0; i < NET_PEAK_LOOPS; ++i) {
        NET_UNROLL for (j = 0; j < 10; ++j)
        {
            NET_OTHER(y);
            sums[j] = NET_FLOAT_ADD(sums[j], x, y);
            NET_OTHER(sums[j]);
        }
    }
}

int main(void)
{
    static const uint8_t bytes[64] = {1, 2, 3};
    static const float values[2] = {0.001f, 0.002f};
    double bits = 1e9, floats = 1e9;
    int i;
    for (i = 0; i < 300; ++i) {
        double start = net_seconds(), end;
        net_peak_bits(bytes);
        end = net_seconds() - start;
        bits = end < bits ? end : bits;
        start = net_seconds();
        net_peak_floats(values);
        end = net_seconds() - start;
        floats = end < floats ? end : floats;
    }
    printf("%.6g %.6g\n", NET_PEAK_LOOPS * 8.0 * 8 * NET_LANES / bits, NET_PEAK_LOOPS * 10.0 * NET_FLOATS / floats);
    return 0;
}
