/*
 * Counts in how many bits windows differ from filters, for one or four pixels and all filters:
 * counts[j * stride + o] = popcount(window j ^ filter o), at most 65535.
 *
 * Filters lie in groups of 32 (the last one of 16, if no more is needed): byte k of all filters of a group,
 * then byte k + 1. So a vector holds the same byte of many filters, sums stay in their bytes as long as they
 * fit (31 bytes of bits), and nothing is ever added across a vector.
 */
#define NET_ROOM 31

#if defined(NET_AVX512)
typedef __m512i net_bits;
#define NET_LANES 64
#elif defined(NET_AVX2)
typedef __m256i net_bits;
#define NET_LANES 32
#elif defined(NET_NEON)
typedef uint8x16_t net_bits;
#define NET_LANES 16
#elif defined(NET_WASM)
typedef v128_t net_bits;
#define NET_LANES 16
#elif NET_WORD_BITS == 64
typedef uint64_t net_bits;
#define NET_LANES 8
#else
typedef uint32_t net_bits;
#define NET_LANES 4
#endif

/* Walks over the bytes of a window in runs that the byte sums have room for. */
#define NET_EACH_BYTE(BODY, FOLD)                                                                          \
    do {                                                                                                   \
        int32_t row_, tap_, room_ = NET_ROOM;                                                              \
        for (row_ = 0; row_ < w->rows; ++row_) {                                                           \
            for (tap_ = 0; tap_ < w->taps; ++tap_) {                                                       \
                const size_t from_ = (size_t)row_ * w->row + (size_t)tap_ * w->tap;                        \
                size_t filter_ = w->weight + (size_t)row_ * w->weight_row + (size_t)tap_ * w->weight_tap;  \
                int32_t left_ = w->length;                                                                 \
                size_t k = from_;                                                                          \
                while (left_ > 0) {                                                                        \
                    int32_t run_ = left_ < room_ ? left_ : room_;                                          \
                    left_ -= run_;                                                                         \
                    room_ -= run_;                                                                         \
                    for (; run_ > 0; --run_, ++k, ++filter_) {                                             \
                        BODY                                                                               \
                    }                                                                                      \
                    if (room_ == 0) {                                                                      \
                        FOLD                                                                               \
                        room_ = NET_ROOM;                                                                  \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
        FOLD                                                                                               \
    } while (0)

#if defined(NET_AVX2)

/* Popcounts of four bits against four bits, as a table for each of the sixteen values of a pixel's nibble. */
static const uint8_t net_nibbles[16][16] = {
#define NET_POP(a) (uint8_t)((((a) >> 3) & 1) + (((a) >> 2) & 1) + (((a) >> 1) & 1) + ((a)&1))
#define NET_ROW(a)                                                                                             \
    {NET_POP((a) ^ 0),  NET_POP((a) ^ 1),  NET_POP((a) ^ 2),  NET_POP((a) ^ 3), NET_POP((a) ^ 4),             \
     NET_POP((a) ^ 5),  NET_POP((a) ^ 6),  NET_POP((a) ^ 7),  NET_POP((a) ^ 8), NET_POP((a) ^ 9),             \
     NET_POP((a) ^ 10), NET_POP((a) ^ 11), NET_POP((a) ^ 12), NET_POP((a) ^ 13), NET_POP((a) ^ 14),           \
     NET_POP((a) ^ 15)}
    NET_ROW(0), NET_ROW(1), NET_ROW(2),  NET_ROW(3),  NET_ROW(4),  NET_ROW(5),  NET_ROW(6),  NET_ROW(7),
    NET_ROW(8), NET_ROW(9), NET_ROW(10), NET_ROW(11), NET_ROW(12), NET_ROW(13), NET_ROW(14), NET_ROW(15)};

static inline __m256i net_table(unsigned int nibble)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)net_nibbles[nibble]));
}

static inline void net_fold(uint16_t *counts, __m256i *sums)
{
    const __m256i low = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(*sums));
    const __m256i high = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(*sums, 1));
    __m256i *const to = (__m256i *)(void *)counts;
    _mm256_storeu_si256(to, _mm256_add_epi16(_mm256_loadu_si256(to), low));
    _mm256_storeu_si256(to + 1, _mm256_add_epi16(_mm256_loadu_si256(to + 1), high));
    *sums = _mm256_setzero_si256();
}

#define NET_LOOKUP(SUM, LOW, HIGH)                                                                         \
    SUM = _mm256_add_epi8(SUM, _mm256_shuffle_epi8(low_table, LOW));                                       \
    SUM = _mm256_add_epi8(SUM, _mm256_shuffle_epi8(high_table, HIGH));

/* P pixels against V groups of 32 filters. */
#define NET_COUNT_BLOCK(NAME, P, V)                                                                        \
    static void NAME(const uint8_t *const *patch, const net_window *w, const uint8_t *filters, size_t next, \
                     uint16_t *counts, size_t stride)                                                      \
    {                                                                                                      \
        const __m256i mask = _mm256_set1_epi8(15);                                                         \
        __m256i sums[P][V];                                                                                \
        int j, v;                                                                                          \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v)                              \
        {                                                                                                  \
            sums[j][v] = _mm256_setzero_si256();                                                           \
            memset(counts + (size_t)j * stride + 32 * v, 0, 64);                                           \
        }                                                                                                  \
        NET_EACH_BYTE(                                                                                     \
            __m256i low[V]; __m256i high[V];                                                               \
            NET_UNROLL for (v = 0; v < V; ++v) {                                                           \
                const __m256i bits =                                                                       \
                    _mm256_loadu_si256((const __m256i *)(const void *)(filters + (size_t)v * next + 32 * filter_)); \
                low[v] = _mm256_and_si256(bits, mask);                                                     \
                high[v] = _mm256_and_si256(_mm256_srli_epi16(bits, 4), mask);                              \
            } NET_UNROLL for (j = 0; j < P; ++j) {                                                         \
                const unsigned int byte = patch[j][k];                                                     \
                const __m256i low_table = net_table(byte & 15u);                                           \
                const __m256i high_table = net_table(byte >> 4);                                           \
                NET_UNROLL for (v = 0; v < V; ++v) { NET_LOOKUP(sums[j][v], low[v], high[v]) }             \
            },                                                                                             \
            NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v)                          \
                net_fold(counts + (size_t)j * stride + 32 * v, &sums[j][v]););                             \
    }

NET_COUNT_BLOCK(net_count_4x64, 4, 2)
NET_COUNT_BLOCK(net_count_4x32, 4, 1)
NET_COUNT_BLOCK(net_count_1x64, 1, 2)
NET_COUNT_BLOCK(net_count_1x32, 1, 1)

static void net_count_16(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                         uint16_t *counts, size_t stride)
{
    const __m128i mask = _mm_set1_epi8(15);
    int j;
    for (j = 0; j < pixels; ++j) {
        const uint8_t *const p = patch[j];
        __m256i total = _mm256_setzero_si256();
        __m128i sums = _mm_setzero_si128();
        NET_EACH_BYTE(
            const __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)(filters + 16 * filter_));
            const unsigned int byte = p[k];
            const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)net_nibbles[byte & 15u]);
            const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)net_nibbles[byte >> 4]);
            sums = _mm_add_epi8(sums, _mm_shuffle_epi8(low, _mm_and_si128(bits, mask)));
            sums = _mm_add_epi8(sums, _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi16(bits, 4), mask)));
            , total = _mm256_add_epi16(total, _mm256_cvtepu8_epi16(sums)); sums = _mm_setzero_si128(););
        _mm256_storeu_si256((__m256i *)(void *)(counts + (size_t)j * stride), total);
    }
}

static void net_count(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                      size_t depth, int channels, uint16_t *counts, size_t stride)
{
    int o = 0;
    while (channels - o > 48) {
        (pixels == 1 ? net_count_1x64 : net_count_4x64)(patch, w, filters + (size_t)o * depth, 32 * depth,
                                                       counts + o, stride);
        o += 64;
    }
    while (channels - o > 16) {
        (pixels == 1 ? net_count_1x32 : net_count_4x32)(patch, w, filters + (size_t)o * depth, 32 * depth,
                                                       counts + o, stride);
        o += 32;
    }
    if (o < channels) {
        net_count_16(patch, pixels, w, filters + (size_t)o * depth, counts + o, stride);
    }
}

#else

#if defined(NET_NEON)
#define NET_LOAD(p) vld1q_u8(p)
#define NET_FILL(b) vdupq_n_u8(b)
#define NET_ZERO vdupq_n_u8(0)
#define NET_ADD_DIFFERENT(sum, a, b) vaddq_u8(sum, vcntq_u8(veorq_u8(a, b)))
static inline void net_fold(uint16_t *counts, net_bits sums)
{
    vst1q_u16(counts, vaddw_u8(vld1q_u16(counts), vget_low_u8(sums)));
    vst1q_u16(counts + 8, vaddw_u8(vld1q_u16(counts + 8), vget_high_u8(sums)));
}
#elif defined(NET_WASM)
#define NET_LOAD(p) wasm_v128_load(p)
#define NET_FILL(b) wasm_u8x16_splat(b)
#define NET_ZERO wasm_u8x16_splat(0)
#define NET_ADD_DIFFERENT(sum, a, b) wasm_i8x16_add(sum, wasm_i8x16_popcnt(wasm_v128_xor(a, b)))
static inline void net_fold(uint16_t *counts, net_bits sums)
{
    wasm_v128_store(counts, wasm_i16x8_add(wasm_v128_load(counts), wasm_u16x8_extend_low_u8x16(sums)));
    wasm_v128_store(counts + 8, wasm_i16x8_add(wasm_v128_load(counts + 8), wasm_u16x8_extend_high_u8x16(sums)));
}
#elif !defined(NET_AVX512)
/* Plain C: the bytes of a word count their bits by themselves. */
#define NET_ONES ((net_bits)(~(net_bits)0 / 255u))
#define NET_FILL(b) ((net_bits)(NET_ONES * (net_bits)(b)))
#define NET_ZERO ((net_bits)0)
static inline net_bits net_load(const uint8_t *p)
{
    net_bits word;
    memcpy(&word, p, sizeof word);
    return word;
}
#define NET_LOAD(p) net_load(p)
static inline net_bits net_different(net_bits a, net_bits b)
{
    net_bits d = a ^ b;
    d = d - ((d >> 1) & (NET_ONES * 0x55u));
    d = (d & (NET_ONES * 0x33u)) + ((d >> 2) & (NET_ONES * 0x33u));
    return (d + (d >> 4)) & (NET_ONES * 0x0fu);
}
#define NET_ADD_DIFFERENT(sum, a, b) ((sum) + net_different(a, b))
static inline void net_fold(uint16_t *counts, net_bits sums)
{
    uint8_t bytes[NET_LANES];
    int i;
    memcpy(bytes, &sums, sizeof bytes);
    for (i = 0; i < NET_LANES; ++i) {
        counts[i] = (uint16_t)(counts[i] + bytes[i]);
    }
}
#endif

/* P pixels against V vectors of filters, which lie `lane` bytes apart within a byte of all filters. */
#define NET_COUNT_BLOCK(NAME, P, V, WIDTH, LOAD)                                                           \
    static void NAME(const uint8_t *const *patch, const net_window *w, const uint8_t *filters, size_t next, \
                     uint16_t *counts, size_t stride)                                                      \
    {                                                                                                      \
        net_bits sums[P][V];                                                                               \
        int j, v;                                                                                          \
        (void)next;                                                                                        \
        NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v)                              \
        {                                                                                                  \
            sums[j][v] = NET_ZERO;                                                                         \
            memset(counts + (size_t)j * stride + NET_LANES * v, 0, 2 * NET_LANES);                         \
        }                                                                                                  \
        NET_EACH_BYTE(                                                                                     \
            net_bits bits[V];                                                                              \
            NET_UNROLL for (v = 0; v < V; ++v) bits[v] = LOAD(filters, next, WIDTH, filter_, v);           \
            NET_UNROLL for (j = 0; j < P; ++j) {                                                           \
                const net_bits pixel = NET_FILL(patch[j][k]);                                              \
                NET_UNROLL for (v = 0; v < V; ++v) sums[j][v] = NET_ADD_DIFFERENT(sums[j][v], pixel, bits[v]); \
            },                                                                                             \
            NET_UNROLL for (j = 0; j < P; ++j) NET_UNROLL for (v = 0; v < V; ++v) {                        \
                net_fold(counts + (size_t)j * stride + NET_LANES * v, sums[j][v]);                         \
                sums[j][v] = NET_ZERO;                                                                     \
            });                                                                                            \
    }

#if defined(NET_AVX512)

#define NET_FILL(b) _mm512_set1_epi8((char)(b))
#define NET_ZERO _mm512_setzero_si512()
#define NET_ADD_DIFFERENT(sum, a, b) _mm512_add_epi8(sum, _mm512_popcnt_epi8(_mm512_xor_si512(a, b)))
static inline void net_fold(uint16_t *counts, net_bits sums)
{
    __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(sums));
    __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(sums, 1));
    low = _mm512_add_epi16(low, _mm512_loadu_si512((const void *)counts));
    high = _mm512_add_epi16(high, _mm512_loadu_si512((const void *)(counts + 32)));
    _mm512_storeu_si512((void *)counts, low);
    _mm512_storeu_si512((void *)(counts + 32), high);
}
static inline __m512i net_pair(const uint8_t *first, const uint8_t *second)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)first);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)second);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
/* Two groups to a vector; V counts pairs of groups. A single group is counted twice. */
#define NET_GROUPS(F, NEXT, WIDTH, K, v)                                                                   \
    net_pair((F) + (size_t)(2 * (v)) * (NEXT) + (size_t)(WIDTH) * (K),                                     \
             (F) + (size_t)(2 * (v) + 1) * (NEXT) + (size_t)(WIDTH) * (K))
NET_COUNT_BLOCK(net_count_4x128, 4, 2, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_4x64, 4, 1, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_1x64, 1, 1, 32, NET_GROUPS)

static void net_count_small(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                            int lanes, uint16_t *counts, size_t stride)
{
    int j;
    for (j = 0; j < pixels; ++j) {
        const uint8_t *const p = patch[j];
        const __mmask32 use = lanes == 32 ? 0xffffffffu : 0xffffu;
        __m512i total = _mm512_setzero_si512();
        __m256i sums = _mm256_setzero_si256();
        NET_EACH_BYTE(
            const __m256i bits = _mm256_maskz_loadu_epi8(use, (const void *)(filters + (size_t)lanes * filter_));
            const __m256i pixel = _mm256_set1_epi8((char)p[k]);
            sums = _mm256_add_epi8(sums, _mm256_popcnt_epi8(_mm256_xor_si256(bits, pixel)));
            , total = _mm512_add_epi16(total, _mm512_cvtepu8_epi16(sums)); sums = _mm256_setzero_si256(););
        _mm512_mask_storeu_epi16((void *)(counts + (size_t)j * stride), use, total);
    }
}

static void net_count(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                      size_t depth, int channels, uint16_t *counts, size_t stride)
{
    int o = 0;
    while (pixels != 1 && channels - o > 112) {
        net_count_4x128(patch, w, filters + (size_t)o * depth, 32 * depth, counts + o, stride);
        o += 128;
    }
    while (channels - o > 48) {
        (pixels == 1 ? net_count_1x64 : net_count_4x64)(patch, w, filters + (size_t)o * depth, 32 * depth,
                                                       counts + o, stride);
        o += 64;
    }
    while (o < channels) {
        const int lanes = channels - o > 16 ? 32 : 16;
        net_count_small(patch, pixels, w, filters + (size_t)o * depth, lanes, counts + o, stride);
        o += lanes;
    }
}

#elif NET_LANES == 16

#define NET_GROUPS(F, NEXT, WIDTH, K, v)                                                                   \
    NET_LOAD((F) + (size_t)((v) / 2) * (NEXT) + (size_t)(WIDTH) * (K) + 16 * ((v) % 2))
NET_COUNT_BLOCK(net_count_4x64, 4, 4, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_4x32, 4, 2, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_4x16, 4, 1, 16, NET_GROUPS)
NET_COUNT_BLOCK(net_count_1x64, 1, 4, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_1x32, 1, 2, 32, NET_GROUPS)
NET_COUNT_BLOCK(net_count_1x16, 1, 1, 16, NET_GROUPS)

static void net_count(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                      size_t depth, int channels, uint16_t *counts, size_t stride)
{
    int o = 0;
    while (channels - o > 48) {
        (pixels == 1 ? net_count_1x64 : net_count_4x64)(patch, w, filters + (size_t)o * depth, 32 * depth,
                                                       counts + o, stride);
        o += 64;
    }
    while (channels - o > 16) {
        (pixels == 1 ? net_count_1x32 : net_count_4x32)(patch, w, filters + (size_t)o * depth, 32 * depth,
                                                       counts + o, stride);
        o += 32;
    }
    if (o < channels) {
        (pixels == 1 ? net_count_1x16 : net_count_4x16)(patch, w, filters + (size_t)o * depth, 0, counts + o,
                                                       stride);
    }
}

#else

#define NET_WORDS(F, NEXT, WIDTH, K, v) NET_LOAD((F) + (size_t)(WIDTH) * (K) + NET_LANES * (v))
NET_COUNT_BLOCK(net_count_4_of_32, 4, 1, 32, NET_WORDS)
NET_COUNT_BLOCK(net_count_4_of_16, 4, 1, 16, NET_WORDS)
NET_COUNT_BLOCK(net_count_1_of_32, 1, 1, 32, NET_WORDS)
NET_COUNT_BLOCK(net_count_1_of_16, 1, 1, 16, NET_WORDS)

static void net_count(const uint8_t *const *patch, int pixels, const net_window *w, const uint8_t *filters,
                      size_t depth, int channels, uint16_t *counts, size_t stride)
{
    int o = 0, part;
    while (o < channels) {
        const int lanes = channels - o > 16 ? 32 : 16;
        const uint8_t *const group = filters + (size_t)o * depth;
        for (part = 0; part < lanes; part += NET_LANES) {
            if (lanes == 32) {
                (pixels == 1 ? net_count_1_of_32 : net_count_4_of_32)(patch, w, group + part, 0,
                                                                     counts + o + part, stride);
            } else {
                (pixels == 1 ? net_count_1_of_16 : net_count_4_of_16)(patch, w, group + part, 0,
                                                                     counts + o + part, stride);
            }
        }
        o += lanes;
    }
}

#endif
#endif
