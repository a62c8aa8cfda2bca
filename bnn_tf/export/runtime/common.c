/* How many threads compute an inference together; more than one needs POSIX threads (-pthread). */
#ifndef NET_THREADS
#define NET_THREADS 1
#endif
#if NET_THREADS > 1
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#include <pthread.h>
#include <sched.h>
#endif
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define NET_RESTRICT __restrict__
#define NET_UNROLL _Pragma("GCC unroll 16")
#define NET_INLINE static inline __attribute__((always_inline, unused))
#elif defined(_MSC_VER)
#define NET_RESTRICT __restrict
#define NET_UNROLL
#define NET_INLINE static __forceinline
#else
#define NET_RESTRICT
#define NET_UNROLL
#define NET_INLINE static inline
#endif

/* GCC would unroll short loops over channels whole, and then compute one value after the other. */
#if defined(__GNUC__) && !defined(__clang__)
#define NET_VECTORS _Pragma("GCC unroll 1")
#else
#define NET_VECTORS
#endif

/* What to do after step n, when all threads have met: for those who look at intermediate values. */
#ifndef NET_AFTER
#define NET_AFTER(n)
#endif

/* NET_PORTABLE turns all vector instructions off; NET_WORD_BITS chooses 32 or 64 bits for plain C. */
#if !defined(NET_PORTABLE)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512BITALG__) && defined(__AVX512VPOPCNTDQ__)
#define NET_AVX512 1
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define NET_AVX2 1
#include <immintrin.h>
#elif defined(__ARM_NEON) || defined(__ARM_NEON__)
#define NET_NEON 1
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#define NET_WASM 1
#include <wasm_simd128.h>
#endif
#endif
#if !defined(NET_WORD_BITS)
#if UINTPTR_MAX > 0xffffffffu
#define NET_WORD_BITS 64
#else
#define NET_WORD_BITS 32
#endif
#endif

/* A rectangle of output pixels that see the same taps of the window inside of the map. */
typedef struct {
    int16_t y, x, height, width;      /* the pixels */
    int16_t row, rows, column, columns; /* the taps */
} net_region;

/* How output pixels lie over the input of a convolution or pool; `pixel` counts bytes or floats. */
typedef struct {
    int16_t out_width, in_width;
    int16_t stride_y, stride_x, dilation_y, dilation_x, before_y, before_x;
    int32_t pixel;
} net_geometry;

/* What a strip of pixels reads: `rows` times `taps` runs of `length` elements. */
typedef struct {
    int32_t rows, taps, length;
    size_t row, tap;                           /* from one to the next, in the input */
    size_t weight, weight_row, weight_tap;     /* the same in the weights, in elements of a filter */
} net_window;
