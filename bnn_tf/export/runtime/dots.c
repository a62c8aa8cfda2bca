/*
 * Sums of products of windows with filters, for one or NET_DOTS pixels and all filters:
 * out[j * stride + o] = sum_k window j [k] * filter o [k].
 *
 * Filters lie in blocks of 16, the rest in blocks of 4: element k of all filters of a block, then k + 1.
 */
#if defined(NET_AVX512)
typedef __m512 net_float;
#define NET_FLOATS 16
#define NET_FLOAT_LOAD(p) _mm512_loadu_ps(p)
#define NET_FLOAT_STORE(p, v) _mm512_storeu_ps(p, v)
#define NET_FLOAT_FILL(x) _mm512_set1_ps(x)
#define NET_FLOAT_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#elif defined(NET_AVX2)
typedef __m256 net_float;
#define NET_FLOATS 8
#define NET_FLOAT_LOAD(p) _mm256_loadu_ps(p)
#define NET_FLOAT_STORE(p, v) _mm256_storeu_ps(p, v)
#define NET_FLOAT_FILL(x) _mm256_set1_ps(x)
#define NET_FLOAT_ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#elif defined(NET_NEON)
typedef float32x4_t net_float;
#define NET_FLOATS 4
#define NET_FLOAT_LOAD(p) vld1q_f32(p)
#define NET_FLOAT_STORE(p, v) vst1q_f32(p, v)
#define NET_FLOAT_FILL(x) vdupq_n_f32(x)
#if defined(__aarch64__)
#define NET_FLOAT_ADD(sum, a, b) vfmaq_f32(sum, a, b)
#else
#define NET_FLOAT_ADD(sum, a, b) vmlaq_f32(sum, a, b)
#endif
#elif defined(NET_WASM)
typedef v128_t net_float;
#define NET_FLOATS 4
#define NET_FLOAT_LOAD(p) wasm_v128_load(p)
#define NET_FLOAT_STORE(p, v) wasm_v128_store(p, v)
#define NET_FLOAT_FILL(x) wasm_f32x4_splat(x)
#define NET_FLOAT_ADD(sum, a, b) wasm_f32x4_add(sum, wasm_f32x4_mul(a, b))
#else
typedef float net_float;
#define NET_FLOATS 1
#define NET_FLOAT_LOAD(p) (*(p))
#define NET_FLOAT_STORE(p, v) (*(p) = (v))
#define NET_FLOAT_FILL(x) (x)
#define NET_FLOAT_ADD(sum, a, b) ((sum) + (a) * (b))
#endif

/* Pixels at once, and vectors of sums for each of them: as many as stay in registers. */
#if defined(NET_AVX512) || defined(NET_AVX2)
#define NET_DOTS 6
#define NET_DOT_VECTORS (16 / NET_FLOATS)
#elif defined(NET_NEON) && !defined(__aarch64__)
#define NET_DOTS 4
#define NET_DOT_VECTORS 2
#else
#define NET_DOTS 4
#define NET_DOT_VECTORS 4
#endif

/* Keeps compilers from loading the same weights once for every pixel. */
#if defined(NET_AVX2) && (defined(__GNUC__) || defined(__clang__))
#define NET_KEEP(x) __asm__("" : "+x"(x))
#else
#define NET_KEEP(x) (void)(x)
#endif

#if defined(NET_NEON) && defined(__aarch64__)
/* Four elements of each pixel in a register, multiplied from its lanes. */
#define NET_DOT_LANE(P, V, WIDTH, LANE)                                                                    \
    NET_UNROLL for (v = 0; v < V; ++v)                                                                     \
    {                                                                                                      \
        const float32x4_t weights = vld1q_f32(f + WIDTH * (LANE) + 4 * v);                                 \
        NET_UNROLL for (j = 0; j < P; ++j) sums[j][v] = vfmaq_laneq_f32(sums[j][v], weights, pixels[j], LANE); \
    }
#define NET_DOT_FOURS(P, V, WIDTH)                                                                         \
    for (; i + 4 <= w->length; i += 4, k += 4, f += 4 * WIDTH) {                                           \
        float32x4_t pixels[P];                                                                             \
        NET_UNROLL for (j = 0; j < P; ++j) pixels[j] = vld1q_f32(patch[j] + k);                            \
        NET_DOT_LANE(P, V, WIDTH, 0)                                                                       \
        NET_DOT_LANE(P, V, WIDTH, 1)                                                                       \
        NET_DOT_LANE(P, V, WIDTH, 2)                                                                       \
        NET_DOT_LANE(P, V, WIDTH, 3)                                                                       \
    }
#else
#define NET_DOT_FOURS(P, V, WIDTH)
#endif

/* P pixels against V vectors in blocks of WIDTH filters. */
#define NET_DOT_BLOCK(NAME, P, V, WIDTH)                                                                   \
    static void NAME(const float *const *patch, const net_window *w, const float *filters, float *out,     \
                     size_t stride)                                                                        \
    {                                                                                                      \
        net_float sums[P][V];                                                                              \
        int32_t row, tap, i;                                                                               \
        int j, v;                                                                                          \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = NET_FLOAT_FILL(0.0f); \
        for (row = 0; row < w->rows; ++row) {                                                              \
            for (tap = 0; tap < w->taps; ++tap) {                                                          \
                const float *f = filters + (w->weight + (size_t)row * w->weight_row + (size_t)tap * w->weight_tap) * WIDTH; \
                size_t k = (size_t)row * w->row + (size_t)tap * w->tap;                                    \
                i = 0;                                                                                     \
                NET_DOT_FOURS(P, V, WIDTH)                                                                 \
                for (; i < w->length; ++i, ++k, f += WIDTH) {                                              \
                    net_float x[V];                                                                        \
                    NET_UNROLL for (v = 0; v < V; ++v)                                                     \
                    {                                                                                      \
                        x[v] = NET_FLOAT_LOAD(f + NET_FLOATS * v);                                         \
                        NET_KEEP(x[v]);                                                                    \
                    }                                                                                      \
                    NET_UNROLL for (j = 0; j < P; ++j) {                                                   \
                        const net_float pixel = NET_FLOAT_FILL(patch[j][k]);                               \
                        NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = NET_FLOAT_ADD(sums[j][v], x[v], pixel); \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v)                              \
            NET_FLOAT_STORE(out + (size_t)j * stride + NET_FLOATS * v, sums[j][v]);                        \
    }

NET_DOT_BLOCK(net_dot_many, NET_DOTS, NET_DOT_VECTORS, 16)
NET_DOT_BLOCK(net_dot_one, 1, NET_DOT_VECTORS, 16)

static void net_dot_4(const float *const *patch, int pixels, const net_window *w, const float *filters, float *out,
                      size_t stride)
{
    int j;
    for (j = 0; j < pixels; ++j) {
        float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
        int32_t row, tap, i;
        for (row = 0; row < w->rows; ++row) {
            for (tap = 0; tap < w->taps; ++tap) {
                const float *f = filters + (w->weight + (size_t)row * w->weight_row + (size_t)tap * w->weight_tap) * 4;
                const float *x = patch[j] + (size_t)row * w->row + (size_t)tap * w->tap;
                for (i = 0; i < w->length; ++i, f += 4) {
                    a += x[i] * f[0];
                    b += x[i] * f[1];
                    c += x[i] * f[2];
                    d += x[i] * f[3];
                }
            }
        }
        out[(size_t)j * stride] = a;
        out[(size_t)j * stride + 1] = b;
        out[(size_t)j * stride + 2] = c;
        out[(size_t)j * stride + 3] = d;
    }
}

static void net_dot(const float *const *patch, int pixels, const net_window *w, const float *filters, size_t depth,
                    int channels, float *out, size_t stride)
{
    int o = 0, part;
    for (; channels - o >= 16; o += 16) {
        for (part = 0; part < 16; part += NET_FLOATS * NET_DOT_VECTORS) {
            const float *const f = filters + (size_t)o * depth + part;
            (pixels == 1 ? net_dot_one : net_dot_many)(patch, w, f, out + o + part, stride);
        }
    }
    for (; o < channels; o += 4) {
        net_dot_4(patch, pixels, w, filters + (size_t)o * depth, out + o, stride);
    }
}
