/* The values of NET_VALUES channels of a pixel, and what is done to them. */
#if NET_FLOATS == 1
#define NET_VALUES 8
#else
#define NET_VALUES 16
#endif
typedef struct {
    net_float v[NET_VALUES / NET_FLOATS];
} net_values;

#define NET_EACH(v) NET_UNROLL for (int v = 0; v < NET_VALUES / NET_FLOATS; ++v)

NET_INLINE net_values net_values_at(const float *from)
{
    net_values t;
    NET_EACH(v) t.v[v] = NET_FLOAT_LOAD(from + NET_FLOATS * v);
    return t;
}

NET_INLINE net_values net_values_of(float value)
{
    net_values t;
    NET_EACH(v) t.v[v] = NET_FLOAT_FILL(value);
    return t;
}

NET_INLINE void net_store(float *to, net_values t)
{
    NET_EACH(v) NET_FLOAT_STORE(to + NET_FLOATS * v, t.v[v]);
}

NET_INLINE net_values net_times(net_values t, net_values factor)
{
    NET_EACH(v) t.v[v] = NET_FLOAT_TIMES(t.v[v], factor.v[v]);
    return t;
}

NET_INLINE net_values net_plus(net_values t, net_values summand)
{
    NET_EACH(v) t.v[v] = NET_FLOAT_PLUS(t.v[v], summand.v[v]);
    return t;
}

NET_INLINE net_values net_at_least(net_values t, net_values limit)
{
    NET_EACH(v) t.v[v] = NET_FLOAT_LARGER(limit.v[v], t.v[v]);
    return t;
}

NET_INLINE net_values net_at_most(net_values t, net_values limit)
{
    NET_EACH(v) t.v[v] = NET_FLOAT_SMALLER(limit.v[v], t.v[v]);
    return t;
}

NET_INLINE net_values net_prelu(net_values t, net_values slope)
{
    const net_values zero = net_values_of(0.0f);
    return net_plus(net_at_least(t, zero), net_times(net_at_most(t, zero), slope));
}

/* The sum of `taps` products of signs, of which `differ` are -1. */
NET_INLINE net_values net_sums_of(const uint16_t *differ, int taps)
{
    net_values t;
#if defined(NET_AVX512)
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)differ));
    t.v[0] = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_set1_epi32(taps), _mm512_add_epi32(wide, wide)));
#else
    NET_EACH(v)
    {
#if defined(NET_AVX2)
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(differ + 8 * v)));
        t.v[v] = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_set1_epi32(taps), _mm256_add_epi32(wide, wide)));
#elif defined(NET_NEON)
        const uint16x8_t two = vld1q_u16(differ + 8 * (v / 2));
        const uint32x4_t twice = vshll_n_u16(v % 2 == 0 ? vget_low_u16(two) : vget_high_u16(two), 1);
        t.v[v] = vcvtq_f32_s32(vsubq_s32(vdupq_n_s32(taps), vreinterpretq_s32_u32(twice)));
#elif defined(NET_WASM)
        const v128_t wide = wasm_u32x4_load16x4(differ + 4 * v);
        t.v[v] = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(wasm_i32x4_splat(taps), wasm_i32x4_add(wide, wide)));
#else
        t.v[v] = (float)(taps - 2 * (int)differ[v]);
#endif
    }
#endif
    return t;
}

/* Packs their signs: bit c % 8 of byte c / 8 is 1 where value c is below zero. */
NET_INLINE void net_signs(uint8_t *bits, net_values t)
{
#if defined(NET_AVX512)
    const __mmask16 below = _mm512_cmp_ps_mask(t.v[0], _mm512_setzero_ps(), _CMP_LT_OQ);
    memcpy(bits, &below, 2);
#elif defined(NET_AVX2)
    NET_EACH(v) bits[v] = (uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(t.v[v], _mm256_setzero_ps(), _CMP_LT_OQ));
#elif defined(NET_NEON)
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const float32x4_t zero = vdupq_n_f32(0.0f);
    const uint16x4_t a = vmovn_u32(vcltq_f32(t.v[0], zero)), b = vmovn_u32(vcltq_f32(t.v[1], zero));
    const uint16x4_t c = vmovn_u32(vcltq_f32(t.v[2], zero)), d = vmovn_u32(vcltq_f32(t.v[3], zero));
    const uint8x16_t all = vcombine_u8(vmovn_u16(vcombine_u16(a, b)), vmovn_u16(vcombine_u16(c, d)));
    const uint8x16_t below = vandq_u8(all, vld1q_u8(weights));
    uint8x8_t sums = vpadd_u8(vget_low_u8(below), vget_high_u8(below));
    sums = vpadd_u8(sums, sums);
    sums = vpadd_u8(sums, sums);
    bits[0] = vget_lane_u8(sums, 0);
    bits[1] = vget_lane_u8(sums, 1);
#elif defined(NET_WASM)
    const v128_t zero = wasm_f32x4_splat(0.0f);
    const v128_t low = wasm_i16x8_narrow_i32x4(wasm_f32x4_lt(t.v[0], zero), wasm_f32x4_lt(t.v[1], zero));
    const v128_t high = wasm_i16x8_narrow_i32x4(wasm_f32x4_lt(t.v[2], zero), wasm_f32x4_lt(t.v[3], zero));
    const uint32_t below = wasm_i8x16_bitmask(wasm_i8x16_narrow_i16x8(low, high));
    bits[0] = (uint8_t)below;
    bits[1] = (uint8_t)(below >> 8);
#else
    unsigned int below = 0;
    NET_EACH(v) below |= (t.v[v] < 0.0f ? 1u : 0u) << v;
    bits[0] = (uint8_t)below;
#endif
}
