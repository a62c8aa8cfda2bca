/*
 * Sums of products of windows with filters, for one or NET_DOTS pixels and all filters:
 * out[j * stride + o] = sum_k window j [k] * filter o [k].
 *
 * Filters lie in blocks of 16, the rest in blocks of 4: element k of all filters of a block, then k + 1.
 * They are of type TYPE; LOAD(f, v) makes vector v of NET_DOT_VECTORS of those at f.
 */
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
#define NET_DOT_LANE(LOAD, P, LANE)                                                                        \
    NET_UNROLL for (v = 0; v < NET_DOT_VECTORS; ++v)                                                       \
    {                                                                                                      \
        const float32x4_t x = LOAD(f + 16 * (LANE), v);                                                    \
        NET_UNROLL for (j = 0; j < P; ++j) sums[j][v] = vfmaq_laneq_f32(sums[j][v], x, pixels[j], LANE);   \
    }
#define NET_DOT_FOURS(LOAD, P)                                                                             \
    for (; i + 4 <= w->length; i += 4, k += 4, f += 64) {                                                  \
        float32x4_t pixels[P];                                                                             \
        NET_UNROLL for (j = 0; j < P; ++j) pixels[j] = vld1q_f32(patch[j] + k);                            \
        NET_DOT_LANE(LOAD, P, 0)                                                                           \
        NET_DOT_LANE(LOAD, P, 1)                                                                           \
        NET_DOT_LANE(LOAD, P, 2)                                                                           \
        NET_DOT_LANE(LOAD, P, 3)                                                                           \
    }
#else
#define NET_DOT_FOURS(LOAD, P)
#endif

/* P pixels against NET_DOT_VECTORS vectors in blocks of 16 filters. */
#define NET_DOT_BLOCK(NAME, TYPE, LOAD, P)                                                                 \
    static void NAME(const float *source, const size_t *from, const net_window *w, const TYPE *filters,    \
                     float *out, size_t stride)                                                            \
    {                                                                                                      \
        const float *patch[P];                                                                             \
        net_float sums[P][NET_DOT_VECTORS];                                                                \
        int32_t row, tap, i;                                                                               \
        int j, v;                                                                                          \
        NET_UNROLL for (j = 0; j < P; ++j) patch[j] = source + from[j];                                    \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < NET_DOT_VECTORS; ++v)                \
            sums[j][v] = NET_FLOAT_FILL(0.0f);                                                             \
        for (row = 0; row < w->rows; ++row) {                                                              \
            for (tap = 0; tap < w->taps; ++tap) {                                                          \
                const TYPE *f = filters + (w->weight + (size_t)row * w->weight_row + (size_t)tap * w->weight_tap) * 16; \
                size_t k = (size_t)row * w->row + (size_t)tap * w->tap;                                    \
                i = 0;                                                                                     \
                NET_DOT_FOURS(LOAD, P)                                                                     \
                for (; i < w->length; ++i, ++k, f += 16) {                                                 \
                    net_float x[NET_DOT_VECTORS];                                                          \
                    NET_UNROLL for (v = 0; v < NET_DOT_VECTORS; ++v)                                       \
                    {                                                                                      \
                        x[v] = LOAD(f, v);                                                                 \
                        NET_KEEP(x[v]);                                                                    \
                    }                                                                                      \
                    NET_UNROLL for (j = 0; j < P; ++j) {                                                   \
                        const net_float pixel = NET_FLOAT_FILL(patch[j][k]);                               \
                        NET_UNROLL for (v = 0; v < NET_DOT_VECTORS; ++v)                                   \
                            sums[j][v] = NET_FLOAT_ADD(sums[j][v], x[v], pixel);                           \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < NET_DOT_VECTORS; ++v)                \
            NET_FLOAT_STORE(out + (size_t)j * stride + NET_FLOATS * v, sums[j][v]);                        \
    }

/* The pixels against blocks of 4 filters. */
#define NET_DOT_REST(NAME, TYPE)                                                                           \
    static void NAME(const float *source, const size_t *from, int pixels, const net_window *w,             \
                     const TYPE *filters, float *out, size_t stride)                                       \
    {                                                                                                      \
        int j;                                                                                             \
        for (j = 0; j < pixels; ++j) {                                                                     \
            float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;                                                  \
            int32_t row, tap, i;                                                                           \
            for (row = 0; row < w->rows; ++row) {                                                          \
                for (tap = 0; tap < w->taps; ++tap) {                                                      \
                    const TYPE *f = filters + (w->weight + (size_t)row * w->weight_row + (size_t)tap * w->weight_tap) * 4; \
                    const float *x = source + from[j] + (size_t)row * w->row + (size_t)tap * w->tap;       \
                    for (i = 0; i < w->length; ++i, f += 4) {                                              \
                        a += x[i] * (float)f[0];                                                           \
                        b += x[i] * (float)f[1];                                                           \
                        c += x[i] * (float)f[2];                                                           \
                        d += x[i] * (float)f[3];                                                           \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
            out[(size_t)j * stride] = a;                                                                   \
            out[(size_t)j * stride + 1] = b;                                                               \
            out[(size_t)j * stride + 2] = c;                                                               \
            out[(size_t)j * stride + 3] = d;                                                               \
        }                                                                                                  \
    }

/*
 * The functions NAME(source, from, pixels, window, filters, depth, channels, out, stride) for filters of a type. There
 * may be several strips of pixels, which share a block of filters while it is in the nearest cache.
 */
#define NET_DOT_FUNCTIONS(NAME, TYPE, LOAD)                                                                \
    NET_DOT_BLOCK(NAME##_many, TYPE, LOAD, NET_DOTS)                                                       \
    NET_DOT_BLOCK(NAME##_one, TYPE, LOAD, 1)                                                               \
    NET_DOT_REST(NAME##_rest, TYPE)                                                                        \
    static void NAME(const float *source, const size_t *from, int pixels, const net_window *w,             \
                     const TYPE *filters, size_t depth, int channels, float *out, size_t stride)           \
    {                                                                                                      \
        int o = 0, part, j;                                                                                \
        for (; channels - o >= 16; o += 16) {                                                              \
            for (part = 0; part < 16; part += NET_FLOATS * NET_DOT_VECTORS) {                              \
                const TYPE *const f = filters + (size_t)o * depth + part;                                  \
                if (pixels == 1) {                                                                         \
                    NAME##_one(source, from, w, f, out + o + part, stride);                                \
                } else {                                                                                   \
                    for (j = 0; j < pixels; j += NET_DOTS) {                                               \
                        NAME##_many(source, from + j, w, f, out + (size_t)j * stride + o + part, stride);  \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
        for (; o < channels; o += 4) {                                                                     \
            NAME##_rest(source, from, pixels, w, filters + (size_t)o * depth, out + o, stride);            \
        }                                                                                                  \
    }
