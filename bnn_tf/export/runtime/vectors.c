/*
 * Vectors of NET_FLOATS floats. NET_FLOAT_ADD(sum, a, b) is sum + a * b; the larger and the smaller of two values are
 * the second one where it is not a number.
 */
#if defined(NET_AVX512)
typedef __m512 net_float;
#define NET_FLOATS 16
#define NET_FLOAT_LOAD(p) _mm512_loadu_ps(p)
#define NET_FLOAT_STORE(p, x) _mm512_storeu_ps(p, x)
#define NET_FLOAT_FILL(x) _mm512_set1_ps(x)
#define NET_FLOAT_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define NET_FLOAT_TIMES(a, b) _mm512_mul_ps(a, b)
#define NET_FLOAT_PLUS(a, b) _mm512_add_ps(a, b)
#define NET_FLOAT_LARGER(a, b) _mm512_max_ps(a, b)
#define NET_FLOAT_SMALLER(a, b) _mm512_min_ps(a, b)
#elif defined(NET_AVX2)
typedef __m256 net_float;
#define NET_FLOATS 8
#define NET_FLOAT_LOAD(p) _mm256_loadu_ps(p)
#define NET_FLOAT_STORE(p, x) _mm256_storeu_ps(p, x)
#define NET_FLOAT_FILL(x) _mm256_set1_ps(x)
#define NET_FLOAT_ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#define NET_FLOAT_TIMES(a, b) _mm256_mul_ps(a, b)
#define NET_FLOAT_PLUS(a, b) _mm256_add_ps(a, b)
#define NET_FLOAT_LARGER(a, b) _mm256_max_ps(a, b)
#define NET_FLOAT_SMALLER(a, b) _mm256_min_ps(a, b)
#elif defined(NET_NEON)
typedef float32x4_t net_float;
#define NET_FLOATS 4
#define NET_FLOAT_LOAD(p) vld1q_f32(p)
#define NET_FLOAT_STORE(p, x) vst1q_f32(p, x)
#define NET_FLOAT_FILL(x) vdupq_n_f32(x)
#if defined(__aarch64__)
#define NET_FLOAT_ADD(sum, a, b) vfmaq_f32(sum, a, b)
#else
#define NET_FLOAT_ADD(sum, a, b) vmlaq_f32(sum, a, b)
#endif
#define NET_FLOAT_TIMES(a, b) vmulq_f32(a, b)
#define NET_FLOAT_PLUS(a, b) vaddq_f32(a, b)
#define NET_FLOAT_LARGER(a, b) vmaxq_f32(a, b)
#define NET_FLOAT_SMALLER(a, b) vminq_f32(a, b)
#elif defined(NET_WASM)
typedef v128_t net_float;
#define NET_FLOATS 4
#define NET_FLOAT_LOAD(p) wasm_v128_load(p)
#define NET_FLOAT_STORE(p, x) wasm_v128_store(p, x)
#define NET_FLOAT_FILL(x) wasm_f32x4_splat(x)
#define NET_FLOAT_ADD(sum, a, b) wasm_f32x4_add(sum, wasm_f32x4_mul(a, b))
#define NET_FLOAT_TIMES(a, b) wasm_f32x4_mul(a, b)
#define NET_FLOAT_PLUS(a, b) wasm_f32x4_add(a, b)
#define NET_FLOAT_LARGER(a, b) wasm_f32x4_pmax(b, a)
#define NET_FLOAT_SMALLER(a, b) wasm_f32x4_pmin(b, a)
#else
typedef float net_float;
#define NET_FLOATS 1
#define NET_FLOAT_LOAD(p) (*(p))
#define NET_FLOAT_STORE(p, x) (*(p) = (x))
#define NET_FLOAT_FILL(x) (x)
#define NET_FLOAT_ADD(sum, a, b) ((sum) + (a) * (b))
#define NET_FLOAT_TIMES(a, b) ((a) * (b))
#define NET_FLOAT_PLUS(a, b) ((a) + (b))
#define NET_FLOAT_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define NET_FLOAT_SMALLER(a, b) ((a) < (b) ? (a) : (b))
#endif
