/*
 * Counts in how many bits windows differ from filters, for one or four pixels and all filters:
 * counts[j * stride + o] = popcount(window j ^ filter o), at most 65535.
 *
 * Filters lie in groups of 32 (the last one of 16, if no more is needed): byte k of all filters of a group,
 * then byte k + 1. So a vector holds the same byte of many filters, sums stay in their bytes as long as they
 * fit (31 bytes of bits), and nothing is ever added across a vector. The windows are lined up first: the
 * codes of byte k of all pixels, then of byte k + 1, so that the inner loop reads one line of each.
 *
 * For each instruction set: net_code stands for a byte of a pixel, net_pixel is that byte for all lanes,
 * net_filters are the bytes of as many filters as there are lanes, net_differ adds to the sums in how many
 * bits they differ, net_fold adds the sums to the counts.
 */
#define NET_ROOM 31

#if defined(NET_AVX512)

typedef __m512i net_sums, net_filters, net_pixel;
typedef uint8_t net_code;
#define NET_LANES 64
#define NET_CODE(byte) (byte)
#define NET_ZERO _mm512_setzero_si512()
#define NET_PIXEL(code) _mm512_set1_epi8((char)(code))

static inline net_sums net_differ(net_sums sums, net_filters filters, net_pixel pixel)
{
    return _mm512_add_epi8(sums, _mm512_popcnt_epi8(_mm512_xor_si512(filters, pixel)));
}

static inline net_filters net_load_64(const uint8_t *first, const uint8_t *second)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)first);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)second);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline void net_fold_16(uint16_t *counts, __m128i sums)
{
    __m256i *const to = (__m256i *)(void *)counts;
    _mm256_storeu_si256(to, _mm256_add_epi16(_mm256_loadu_si256(to), _mm256_cvtepu8_epi16(sums)));
}

static inline void net_fold_32(uint16_t *counts, __m256i sums)
{
    const __m512i words = _mm512_cvtepu8_epi16(sums);
    _mm512_storeu_si512((void *)counts, _mm512_add_epi16(words, _mm512_loadu_si512((const void *)counts)));
}

static inline void net_fold_64(uint16_t *counts, net_sums sums)
{
    net_fold_32(counts, _mm512_castsi512_si256(sums));
    net_fold_32(counts + 32, _mm512_extracti64x4_epi64(sums, 1));
}

/* Two groups to a vector. The last group fills a part of one, whose other lanes are counted and dropped. */
#define NET_LOAD_64(f, next, v)                                                                            \
    net_load_64((f) + (size_t)(2 * (v)) * (next), (f) + (size_t)(2 * (v) + 1) * (next))
#define NET_LOAD_32(f, next, v) net_load_64(f, f)
#define NET_LOAD_16(f, next, v) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(f)))
#define NET_FOLD_64(counts, stride, sums) net_fold_64(counts, sums)
#define NET_FOLD_32(counts, stride, sums) net_fold_32(counts, _mm512_castsi512_si256(sums))
#define NET_FOLD_16(counts, stride, sums) net_fold_16(counts, _mm512_castsi512_si128(sums))

/* A vector of 16 or 32 filters has room for those of four or two pixels: eight lanes with the code of pixel j. */
#define NET_OF(j) (0x0101010101010101 * (j))
#define NET_QUARTERS(codes, j)                                                                             \
    net_spread(codes, _mm512_set_epi64(NET_OF(3), NET_OF(3), NET_OF(2), NET_OF(2), NET_OF(1), NET_OF(1), 0, 0))
#define NET_HALVES(codes, j)                                                                               \
    net_spread(codes, _mm512_set_epi64(NET_OF(2 * (j) + 1), NET_OF(2 * (j) + 1), NET_OF(2 * (j) + 1),      \
                                       NET_OF(2 * (j) + 1), NET_OF(2 * (j)), NET_OF(2 * (j)),              \
                                       NET_OF(2 * (j)), NET_OF(2 * (j))))

static inline net_pixel net_spread(const net_code *codes, __m512i lanes)
{
    int32_t line;
    memcpy(&line, codes, sizeof line);
    return _mm512_shuffle_epi8(_mm512_set1_epi32(line), lanes);
}

#define NET_FOLD_HALVES(counts, stride, sums)                                                              \
    (net_fold_32(counts, _mm512_castsi512_si256(sums)),                                                    \
     net_fold_32((counts) + (stride), _mm512_extracti64x4_epi64(sums, 1)))
#define NET_FOLD_QUARTERS(counts, stride, sums)                                                            \
    (net_fold_16(counts, _mm512_castsi512_si128(sums)),                                                    \
     net_fold_16((counts) + (stride), _mm512_extracti32x4_epi32(sums, 1)),                                 \
     net_fold_16((counts) + 2 * (stride), _mm512_extracti32x4_epi32(sums, 2)),                             \
     net_fold_16((counts) + 3 * (stride), _mm512_extracti32x4_epi32(sums, 3)))

#elif defined(NET_AVX2)

typedef __m256i net_sums;
typedef struct {
    __m256i low, high; /* the nibbles of each filter's byte, or tables for those of a pixel's byte */
} net_filters, net_pixel;
typedef uint16_t net_code; /* where the tables of a byte lie */
#define NET_LANES 32
#define NET_CODE(byte) ((net_code)((byte) * 32u))
#define NET_ZERO _mm256_setzero_si256()

#if defined(__GNUC__) || defined(__clang__)
#define NET_APART(x) __asm__("" : "+x"(x))
#else
#define NET_APART(x) (void)(x)
#endif

/* For each byte of a pixel: in how many bits its low and its high nibble differ from each of sixteen nibbles. */
#define NET_BIT(a, b, i) (((a) >> (i) ^ (b) >> (i)) & 1)
#define NET_N(a, b) (uint8_t)(NET_BIT(a, b, 0) + NET_BIT(a, b, 1) + NET_BIT(a, b, 2) + NET_BIT(a, b, 3))
#define NET_N4(a, b) NET_N(a, b), NET_N(a, (b) + 1), NET_N(a, (b) + 2), NET_N(a, (b) + 3)
#define NET_N16(a) NET_N4(a, 0), NET_N4(a, 4), NET_N4(a, 8), NET_N4(a, 12)
#define NET_BYTE(low, high) {NET_N16(low), NET_N16(high)}
#define NET_BYTE4(low, high) NET_BYTE(low, high), NET_BYTE((low) + 1, high), NET_BYTE((low) + 2, high), NET_BYTE((low) + 3, high)
#define NET_BYTE16(high) NET_BYTE4(0, high), NET_BYTE4(4, high), NET_BYTE4(8, high), NET_BYTE4(12, high)
static const uint8_t net_tables[256][32] = {
    NET_BYTE16(0),  NET_BYTE16(1),  NET_BYTE16(2),  NET_BYTE16(3), NET_BYTE16(4),  NET_BYTE16(5),
    NET_BYTE16(6),  NET_BYTE16(7),  NET_BYTE16(8),  NET_BYTE16(9), NET_BYTE16(10), NET_BYTE16(11),
    NET_BYTE16(12), NET_BYTE16(13), NET_BYTE16(14), NET_BYTE16(15)};

static inline net_pixel net_tables_of(net_code code)
{
    const uint8_t *const at = &net_tables[0][0] + code;
    net_pixel pixel;
    pixel.low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
    pixel.high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(at + 16)));
    return pixel;
}
#define NET_PIXEL(code) net_tables_of(code)

static inline net_sums net_differ(net_sums sums, net_filters filters, net_pixel pixel)
{
    sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(pixel.low, filters.low));
    NET_APART(sums); /* adding the look-ups first would take a register more than there are */
    return _mm256_add_epi8(sums, _mm256_shuffle_epi8(pixel.high, filters.high));
}

static inline net_filters net_split(__m256i bits)
{
    const __m256i mask = _mm256_set1_epi8(15);
    net_filters filters;
    filters.low = _mm256_and_si256(bits, mask);
    filters.high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), mask);
    return filters;
}

static inline void net_fold_16(uint16_t *counts, __m128i sums)
{
    __m256i *const to = (__m256i *)(void *)counts;
    _mm256_storeu_si256(to, _mm256_add_epi16(_mm256_loadu_si256(to), _mm256_cvtepu8_epi16(sums)));
}

static inline void net_fold_32(uint16_t *counts, net_sums sums)
{
    net_fold_16(counts, _mm256_castsi256_si128(sums));
    net_fold_16(counts + 16, _mm256_extracti128_si256(sums, 1));
}

#define NET_LOAD_32(f, next, v) net_split(_mm256_loadu_si256((const __m256i *)(const void *)((f) + (size_t)(v) * (next))))
#define NET_LOAD_16(f, next, v)                                                                            \
    net_split(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(f))))
#define NET_FOLD_32(counts, stride, sums) net_fold_32(counts, sums)
#define NET_FOLD_16(counts, stride, sums) net_fold_16(counts, _mm256_castsi256_si128(sums))

#else

typedef uint8_t net_code;
#define NET_CODE(byte) (byte)

#if defined(NET_NEON)

typedef uint8x16_t net_sums, net_filters, net_pixel;
#define NET_LANES 16
#define NET_ZERO vdupq_n_u8(0)
#define NET_PIXEL(code) vdupq_n_u8(code)
#define NET_LOAD(p) vld1q_u8(p)

static inline net_sums net_differ(net_sums sums, net_filters filters, net_pixel pixel)
{
    return vaddq_u8(sums, vcntq_u8(veorq_u8(filters, pixel)));
}

static inline void net_fold(uint16_t *counts, net_sums sums)
{
    vst1q_u16(counts, vaddw_u8(vld1q_u16(counts), vget_low_u8(sums)));
    vst1q_u16(counts + 8, vaddw_u8(vld1q_u16(counts + 8), vget_high_u8(sums)));
}

#elif defined(NET_WASM)

typedef v128_t net_sums, net_filters, net_pixel;
#define NET_LANES 16
#define NET_ZERO wasm_u8x16_splat(0)
#define NET_PIXEL(code) wasm_u8x16_splat(code)
#define NET_LOAD(p) wasm_v128_load(p)

static inline net_sums net_differ(net_sums sums, net_filters filters, net_pixel pixel)
{
    return wasm_i8x16_add(sums, wasm_i8x16_popcnt(wasm_v128_xor(filters, pixel)));
}

static inline void net_fold(uint16_t *counts, net_sums sums)
{
    wasm_v128_store(counts, wasm_i16x8_add(wasm_v128_load(counts), wasm_u16x8_extend_low_u8x16(sums)));
    wasm_v128_store(counts + 8, wasm_i16x8_add(wasm_v128_load(counts + 8), wasm_u16x8_extend_high_u8x16(sums)));
}

#else /* Plain C: the bytes of a word count their bits by themselves. */

#if NET_WORD_BITS == 64
typedef uint64_t net_sums, net_filters, net_pixel;
#define NET_LANES 8
#else
typedef uint32_t net_sums, net_filters, net_pixel;
#define NET_LANES 4
#endif
#define NET_ONES ((net_sums)(~(net_sums)0 / 255u))
#define NET_ZERO ((net_sums)0)
#define NET_PIXEL(code) ((net_pixel)(NET_ONES * (net_pixel)(code)))
#define NET_LOAD(p) net_load(p)

static inline net_filters net_load(const uint8_t *p)
{
    net_filters word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline net_sums net_differ(net_sums sums, net_filters filters, net_pixel pixel)
{
    net_sums d = filters ^ pixel;
    d = d - ((d >> 1) & (NET_ONES * 0x55u));
    d = (d & (NET_ONES * 0x33u)) + ((d >> 2) & (NET_ONES * 0x33u));
    return sums + ((d + (d >> 4)) & (NET_ONES * 0x0fu));
}

static inline void net_fold(uint16_t *counts, net_sums sums)
{
    uint8_t bytes[NET_LANES];
    int i;
    memcpy(bytes, &sums, sizeof bytes);
    for (i = 0; i < NET_LANES; ++i) {
        counts[i] = (uint16_t)(counts[i] + bytes[i]);
    }
}

#endif

#define NET_FOLD_ANY(counts, stride, sums) net_fold(counts, sums)

/* Vector v of a block: the groups lie `next` bytes apart. */
#define NET_LOAD_ANY(f, next, v) NET_LOAD((f) + (size_t)(NET_LANES * (v) / 32) * (next) + NET_LANES * (v) % 32)

#endif

/* The pixels of a line: loaded together where one instruction does it. */
#if defined(NET_NEON) && defined(__aarch64__)
#define NET_LINE_4(codes) const uint8x16x4_t line = vld4q_dup_u8(codes)
#define NET_OF_LINE_4(codes, j) line.val[j]
#else
#define NET_LINE_4(codes) (void)0
#define NET_OF_LINE_4(codes, j) NET_PIXEL((codes)[j])
#endif
#define NET_LINE_1(codes) (void)0
#define NET_OF_LINE_1(codes, j) NET_PIXEL((codes)[0])

/* Keeps compilers from starting with all pixels at once, for which there are too few registers. */
#if defined(NET_NEON) && defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define NET_IN_ORDER(x) __asm__ volatile("" : "+w"(x))
#else
#define NET_IN_ORDER(x) (void)0
#endif

/* P pixels, S of which share a vector, against V vectors of filters, LANES of each of which count. */
#define NET_COUNT_BLOCK(NAME, P, S, V, LANES, LOAD, PIXEL, FOLD)                                           \
    static void NAME(const net_code *codes, const net_window *w, const uint8_t *filters, size_t width,     \
                     size_t next, uint16_t *counts, size_t stride)                                         \
    {                                                                                                      \
        net_sums sums[P / S][V];                                                                           \
        int32_t row, left, run, room = NET_ROOM;                                                           \
        int j, v;                                                                                          \
        (void)next;                                                                                        \
        NET_UNROLL for (j = 0; j < P; ++j) memset(counts + (size_t)j * stride, 0, 2 * LANES * V);          \
        NET_UNROLL for (j = 0; j < P / S; ++j) NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = NET_ZERO;   \
        for (row = 0; row < w->rows; ++row) {                                                              \
            const uint8_t *f = filters + (w->weight + (size_t)row * w->weight_row) * width;                \
            for (left = w->taps * w->length; left > 0;) {                                                  \
                run = left < room ? left : room;                                                           \
                left -= run;                                                                               \
                room -= run;                                                                               \
                for (; run > 0; --run, codes += P, f += width) {                                           \
                    net_filters x[V];                                                                      \
                    NET_LINE_##P(codes);                                                                   \
                    NET_UNROLL for (v = 0; v < V; ++v) x[v] = LOAD(f, next, v);                            \
                    NET_UNROLL for (j = 0; j < P / S; ++j)                                                 \
                    {                                                                                      \
                        net_pixel pixel = PIXEL(codes, j);                                                 \
                        NET_IN_ORDER(pixel);                                                               \
                        NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = net_differ(sums[j][v], x[v], pixel); \
                        NET_UNROLL for (v = 0; v < V; ++v) NET_IN_ORDER(sums[j][v]);                       \
                    }                                                                                      \
                }                                                                                          \
                if (room == 0 || (left == 0 && row + 1 == w->rows)) {                                      \
                    NET_UNROLL for (j = 0; j < P / S; ++j) NET_UNROLL for (v = 0; v < V; ++v)              \
                    {                                                                                      \
                        FOLD(counts + (size_t)(j * S) * stride + LANES * v, stride, sums[j][v]);           \
                        sums[j][v] = NET_ZERO;                                                             \
                    }                                                                                      \
                    room = NET_ROOM;                                                                       \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
    }

#if defined(NET_AVX512)
NET_COUNT_BLOCK(net_count_4x128, 4, 1, 2, 64, NET_LOAD_64, NET_OF_LINE_4, NET_FOLD_64)
NET_COUNT_BLOCK(net_count_4x64, 4, 1, 1, 64, NET_LOAD_64, NET_OF_LINE_4, NET_FOLD_64)
NET_COUNT_BLOCK(net_count_4x32, 4, 2, 1, 32, NET_LOAD_32, NET_HALVES, NET_FOLD_HALVES)
NET_COUNT_BLOCK(net_count_4x16, 4, 4, 1, 16, NET_LOAD_16, NET_QUARTERS, NET_FOLD_QUARTERS)
NET_COUNT_BLOCK(net_count_1x128, 1, 1, 2, 64, NET_LOAD_64, NET_OF_LINE_1, NET_FOLD_64)
NET_COUNT_BLOCK(net_count_1x64, 1, 1, 1, 64, NET_LOAD_64, NET_OF_LINE_1, NET_FOLD_64)
NET_COUNT_BLOCK(net_count_1x32, 1, 1, 1, 32, NET_LOAD_32, NET_OF_LINE_1, NET_FOLD_32)
NET_COUNT_BLOCK(net_count_1x16, 1, 1, 1, 16, NET_LOAD_16, NET_OF_LINE_1, NET_FOLD_16)
#elif defined(NET_AVX2)
NET_COUNT_BLOCK(net_count_4x64, 4, 1, 2, 32, NET_LOAD_32, NET_OF_LINE_4, NET_FOLD_32)
NET_COUNT_BLOCK(net_count_4x32, 4, 1, 1, 32, NET_LOAD_32, NET_OF_LINE_4, NET_FOLD_32)
NET_COUNT_BLOCK(net_count_4x16, 4, 1, 1, 16, NET_LOAD_16, NET_OF_LINE_4, NET_FOLD_16)
NET_COUNT_BLOCK(net_count_1x64, 1, 1, 2, 32, NET_LOAD_32, NET_OF_LINE_1, NET_FOLD_32)
NET_COUNT_BLOCK(net_count_1x32, 1, 1, 1, 32, NET_LOAD_32, NET_OF_LINE_1, NET_FOLD_32)
NET_COUNT_BLOCK(net_count_1x16, 1, 1, 1, 16, NET_LOAD_16, NET_OF_LINE_1, NET_FOLD_16)
#elif NET_LANES == 16
#if defined(NET_WASM) || defined(__aarch64__)
NET_COUNT_BLOCK(net_count_4x64, 4, 1, 4, 16, NET_LOAD_ANY, NET_OF_LINE_4, NET_FOLD_ANY)
NET_COUNT_BLOCK(net_count_1x64, 1, 1, 4, 16, NET_LOAD_ANY, NET_OF_LINE_1, NET_FOLD_ANY)
#else
#define NET_GROUPS 1 /* sixteen registers hold the sums of four pixels and 32 filters */
#endif
NET_COUNT_BLOCK(net_count_4x32, 4, 1, 2, 16, NET_LOAD_ANY, NET_OF_LINE_4, NET_FOLD_ANY)
NET_COUNT_BLOCK(net_count_4x16, 4, 1, 1, 16, NET_LOAD_ANY, NET_OF_LINE_4, NET_FOLD_ANY)
NET_COUNT_BLOCK(net_count_1x32, 1, 1, 2, 16, NET_LOAD_ANY, NET_OF_LINE_1, NET_FOLD_ANY)
NET_COUNT_BLOCK(net_count_1x16, 1, 1, 1, 16, NET_LOAD_ANY, NET_OF_LINE_1, NET_FOLD_ANY)
#else
NET_COUNT_BLOCK(net_count_4_words, 4, 1, 1, NET_LANES, NET_LOAD_ANY, NET_OF_LINE_4, NET_FOLD_ANY)
NET_COUNT_BLOCK(net_count_1_word, 1, 1, 1, NET_LANES, NET_LOAD_ANY, NET_OF_LINE_1, NET_FOLD_ANY)
#define NET_GROUPS 1
#endif

/* How many groups of filters a block takes at most. */
#if defined(NET_AVX512)
#define NET_GROUPS 4
#elif !defined(NET_GROUPS)
#define NET_GROUPS 2
#endif

/* Byte k of `count` bytes of each window beside one another. */
static inline void net_line_up_each(const uint8_t *source, const size_t *from, int count, int pixels, net_code *codes)
{
    int j, k;
    for (j = 0; j < pixels; ++j) {
        const uint8_t *const window = source + from[j];
        for (k = 0; k < count; ++k) {
            codes[k * pixels + j] = NET_CODE(window[k]);
        }
    }
}

/* The same for eight bytes of four windows. */
static inline void net_line_up_8(const uint8_t *source, const size_t *from, net_code *codes)
{
#if defined(NET_AVX512) || defined(NET_AVX2)
    const __m128i ab = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)(const void *)(source + from[0])),
                                         _mm_loadl_epi64((const __m128i *)(const void *)(source + from[1])));
    const __m128i cd = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)(const void *)(source + from[2])),
                                         _mm_loadl_epi64((const __m128i *)(const void *)(source + from[3])));
    const __m128i low = _mm_unpacklo_epi16(ab, cd), high = _mm_unpackhi_epi16(ab, cd);
#if defined(NET_AVX2)
    __m256i *const to = (__m256i *)(void *)codes;
    _mm256_storeu_si256(to, _mm256_slli_epi16(_mm256_cvtepu8_epi16(low), 5));
    _mm256_storeu_si256(to + 1, _mm256_slli_epi16(_mm256_cvtepu8_epi16(high), 5));
#else
    _mm_storeu_si128((__m128i *)(void *)codes, low);
    _mm_storeu_si128((__m128i *)(void *)(codes + 16), high);
#endif
#elif defined(NET_NEON)
    uint8x8x4_t all;
    all.val[0] = vld1_u8(source + from[0]);
    all.val[1] = vld1_u8(source + from[1]);
    all.val[2] = vld1_u8(source + from[2]);
    all.val[3] = vld1_u8(source + from[3]);
    vst4_u8(codes, all);
#elif defined(NET_WASM)
    const v128_t ab = wasm_i8x16_shuffle(wasm_v128_load64_zero(source + from[0]), wasm_v128_load64_zero(source + from[1]), 0, 16, 1, 17, 2, 18, 3,
                                         19, 4, 20, 5, 21, 6, 22, 7, 23);
    const v128_t cd = wasm_i8x16_shuffle(wasm_v128_load64_zero(source + from[2]), wasm_v128_load64_zero(source + from[3]), 0, 16, 1, 17, 2, 18, 3,
                                         19, 4, 20, 5, 21, 6, 22, 7, 23);
    wasm_v128_store(codes, wasm_i16x8_shuffle(ab, cd, 0, 8, 1, 9, 2, 10, 3, 11));
    wasm_v128_store(codes + 16, wasm_i16x8_shuffle(ab, cd, 4, 12, 5, 13, 6, 14, 7, 15));
#else
    net_line_up_each(source, from, 8, 4, codes);
#endif
}

/* The same for four bytes. */
static inline void net_line_up_4(const uint8_t *source, const size_t *from, net_code *codes)
{
#if defined(NET_AVX512) || defined(NET_AVX2) || defined(NET_WASM) || (defined(NET_NEON) && defined(__aarch64__))
    uint32_t of[4];
    memcpy(of, source + from[0], 4);
    memcpy(of + 1, source + from[1], 4);
    memcpy(of + 2, source + from[2], 4);
    memcpy(of + 3, source + from[3], 4);
#endif
#if defined(NET_AVX512) || defined(NET_AVX2)
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m128i all = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)of), order);
#if defined(NET_AVX2)
    _mm256_storeu_si256((__m256i *)(void *)codes, _mm256_slli_epi16(_mm256_cvtepu8_epi16(all), 5));
#else
    _mm_storeu_si128((__m128i *)(void *)codes, all);
#endif
#elif defined(NET_NEON) && defined(__aarch64__)
    static const uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    vst1q_u8(codes, vqtbl1q_u8(vreinterpretq_u8_u32(vld1q_u32(of)), vld1q_u8(order)));
#elif defined(NET_WASM)
    const v128_t all = wasm_v128_load(of);
    wasm_v128_store(codes, wasm_i8x16_shuffle(all, all, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
#else
    net_line_up_each(source, from, 4, 4, codes);
#endif
}

/* The codes of the windows of one or four pixels, a line for each byte. */
static void net_line_up(const uint8_t *source, const size_t *from, int pixels, const net_window *w, net_code *codes)
{
    const int32_t block = w->length < 8 ? 4 : 8;
    int32_t row, tap, k;
    for (row = 0; row < w->rows; ++row) {
        for (tap = 0; tap < w->taps; ++tap, codes += (size_t)w->length * (size_t)pixels) {
            const uint8_t *const part = source + (size_t)row * w->row + (size_t)tap * w->tap;
            if (pixels != 4 || w->length < block) {
                net_line_up_each(part, from, w->length, pixels, codes);
                continue;
            }
            for (k = 0; k < w->length; k += block) {
                /* The last block ends with the last byte, and repeats some of the one before. */
                const size_t first = (size_t)(k + block <= w->length ? k : w->length - block);
                (block == 8 ? net_line_up_8 : net_line_up_4)(part + first, from, codes + 4 * first);
            }
        }
    }
}

#if defined(NET_AVX512)
/*
 * Counts for few filters and windows of which a row lies in one piece of at least four bytes: a vector has four bytes
 * of sixteen filters, those of a window are broadcast from where they lie, and the counts stay in their vectors.
 */
static inline __m512i net_words(__m512i bytes)
{
    const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
    return _mm512_shuffle_epi8(bytes, order);
}

/* Four bytes of 16 filters, and of 32, whose byte k lies in line k. */
static inline void net_words_of_16(const uint8_t *f, __m512i *words)
{
    const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    words[0] = net_words(_mm512_permutexvar_epi32(lanes, _mm512_loadu_si512((const void *)f)));
}

static inline void net_words_of_32(const uint8_t *f, __m512i *words)
{
    const __m512i lanes = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    const __m512i low = _mm512_loadu_si512((const void *)f), high = _mm512_loadu_si512((const void *)(f + 64));
    words[0] = net_words(_mm512_permutex2var_epi32(low, lanes, high));
    words[1] = net_words(_mm512_permutex2var_epi32(low, _mm512_add_epi32(lanes, _mm512_set1_epi32(4)), high));
}

#define NET_COUNT_WORDS(NAME, WIDTH)                                                                       \
    NET_INLINE void NAME##_of(const uint8_t *source, const size_t *from, const net_window *w, int rows, int length, \
                              const uint8_t *filters, uint16_t *counts, size_t stride)                     \
    {                                                                                                      \
        enum { V = WIDTH / 16 };                                                                           \
        __m512i sums[4][V], x[V];                                                                          \
        int row, k, j, v;                                                                                  \
        NET_UNROLL for (j = 0; j < 4; ++j) NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = NET_ZERO;       \
        NET_UNROLL for (row = 0; row < rows; ++row) {                                                      \
            const uint8_t *const at = source + (size_t)row * w->row;                                       \
            const uint8_t *const f = filters + (w->weight + (size_t)row * w->weight_row) * WIDTH;          \
            NET_UNROLL for (k = 0; k < length; k += 4) {                                                   \
                /* The last four bytes repeat some of those before, which are not counted again. */        \
                const int first = k + 4 <= length ? k : length - 4;                                        \
                const __m512i mask = _mm512_set1_epi32((int32_t)(0xffffffffu << 8 * (k - first)));         \
                net_words_of_##WIDTH(f + WIDTH * first, x);                                                \
                NET_UNROLL for (j = 0; j < 4; ++j)                                                         \
                {                                                                                          \
                    int32_t word;                                                                          \
                    memcpy(&word, at + from[j] + first, sizeof word);                                      \
                    NET_UNROLL for (v = 0; v < V; ++v)                                                     \
                    {                                                                                      \
                        const __m512i differ = _mm512_ternarylogic_epi32(x[v], _mm512_set1_epi32(word), mask, 0x28); \
                        sums[j][v] = _mm512_add_epi32(sums[j][v], _mm512_popcnt_epi32(differ));            \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
        NET_UNROLL for (j = 0; j < 4; ++j) NET_UNROLL for (v = 0; v < V; ++v)                              \
            _mm256_storeu_si256((__m256i *)(void *)(counts + (size_t)j * stride + 16 * v),                 \
                                _mm512_cvtepi32_epi16(sums[j][v]));                                        \
    }                                                                                                      \
                                                                                                           \
    /* Most windows are of 3 x 3 pixels with as many channels as there are filters: without loops. */      \
    static void NAME(const uint8_t *source, const size_t *from, const net_window *w, const uint8_t *filters, \
                     uint16_t *counts, size_t stride)                                                      \
    {                                                                                                      \
        if (w->rows == 3 && w->length == 3 * WIDTH / 8) {                                                  \
            NAME##_of(source, from, w, 3, 3 * WIDTH / 8, filters, counts, stride);                         \
        } else {                                                                                           \
            NAME##_of(source, from, w, w->rows, w->length, filters, counts, stride);                       \
        }                                                                                                  \
    }

NET_COUNT_WORDS(net_count_words_32, 32)
NET_COUNT_WORDS(net_count_words_16, 16)
#endif

/* `depth`: bytes of a filter. `codes`: room for the codes of all pixels. */
static void net_count(const uint8_t *source, const size_t *from, int pixels, const net_window *w, const uint8_t *filters,
                      size_t depth, int channels, uint16_t *counts, size_t stride, void *room)
{
    net_code *const codes = (net_code *)room;
    const int one = pixels == 1;
    int o = 0, groups;
#if defined(NET_AVX512)
    if (channels <= 48 && !one && w->taps == 1 && w->length >= 4) {
        if (channels > 16) {
            net_count_words_32(source, from, w, filters, counts, stride);
            o = 32;
        }
        if (o < channels) {
            net_count_words_16(source, from, w, filters + (size_t)o * depth, counts + o, stride);
        }
        return;
    }
#endif
    net_line_up(source, from, one ? 1 : 4, w, codes);
    for (; channels - o > 16; o += 32 * groups) {
        const uint8_t *const f = filters + (size_t)o * depth;
        groups = (channels - o + 15) / 32 < NET_GROUPS ? (channels - o + 15) / 32 : NET_GROUPS;
#if NET_LANES < 16
        for (groups = 0; groups < 32; groups += NET_LANES) {
            (one ? net_count_1_word : net_count_4_words)(codes, w, f + groups, 32, 0, counts + o + groups, stride);
        }
        groups = 1;
#else
#if NET_GROUPS == 4
        groups = groups == 3 ? 2 : groups;
        if (groups == 4) {
            (one ? net_count_1x128 : net_count_4x128)(codes, w, f, 32, 32 * depth, counts + o, stride);
            continue;
        }
#endif
#if NET_GROUPS >= 2
        if (groups == 2) {
            (one ? net_count_1x64 : net_count_4x64)(codes, w, f, 32, 32 * depth, counts + o, stride);
            continue;
        }
#endif
        (one ? net_count_1x32 : net_count_4x32)(codes, w, f, 32, 0, counts + o, stride);
#endif
    }
    if (o < channels) {
        const uint8_t *const f = filters + (size_t)o * depth;
#if NET_LANES < 16
        for (groups = 0; groups < 16; groups += NET_LANES) {
            (one ? net_count_1_word : net_count_4_words)(codes, w, f + groups, 16, 0, counts + o + groups, stride);
        }
#else
        (one ? net_count_1x16 : net_count_4x16)(codes, w, f, 16, 0, counts + o, stride);
#endif
    }
}
