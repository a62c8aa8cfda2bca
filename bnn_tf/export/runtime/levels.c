/* Filters of 8-bit whole numbers, of which vectors of floats are made where they are read. */
#if defined(NET_AVX512)
#define NET_LEVELS_AT(f, v) \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)((f) + 16 * (v)))))
#elif defined(NET_AVX2)
#define NET_LEVELS_AT(f, v) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((f) + 8 * (v)))))
#elif defined(NET_NEON) && defined(__aarch64__)
/* Each byte goes to the top of a lane, bytes out of the table are 0, and the conversion divides by 2^24. */
static const uint8_t net_tops[4][16] = {
    {99, 99, 99, 0, 99, 99, 99, 1, 99, 99, 99, 2, 99, 99, 99, 3},
    {99, 99, 99, 4, 99, 99, 99, 5, 99, 99, 99, 6, 99, 99, 99, 7},
    {99, 99, 99, 8, 99, 99, 99, 9, 99, 99, 99, 10, 99, 99, 99, 11},
    {99, 99, 99, 12, 99, 99, 99, 13, 99, 99, 99, 14, 99, 99, 99, 15},
};
#define NET_LEVELS_AT(f, v) \
    vcvtq_n_f32_s32(vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(f), vld1q_u8(net_tops[v]))), 24)
#elif defined(NET_NEON)
#define NET_LEVELS_8(f) vmovl_s8(vld1_s8(f))
#define NET_LEVELS_AT(f, v) \
    vcvtq_f32_s32(vmovl_s16((v) == 0 ? vget_low_s16(NET_LEVELS_8(f)) : vget_high_s16(NET_LEVELS_8(f))))
#elif defined(NET_WASM)
#define NET_LEVELS_8(f, v) wasm_i16x8_load8x8((f) + 8 * ((v) / 2))
#define NET_LEVELS_AT(f, v)                                                                                \
    wasm_f32x4_convert_i32x4((v) % 2 == 0 ? wasm_i32x4_extend_low_i16x8(NET_LEVELS_8(f, v))                \
                                          : wasm_i32x4_extend_high_i16x8(NET_LEVELS_8(f, v)))
#else
#define NET_LEVELS_AT(f, v) ((float)(f)[v])
#endif

NET_DOT_FUNCTIONS(net_dot_levels, int8_t, NET_LEVELS_AT)
