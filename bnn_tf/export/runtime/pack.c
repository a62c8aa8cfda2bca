/* Packs the signs of n values: bit c % 8 of byte c / 8 is 1 where value c is below zero. */
static void net_pack(const float *NET_RESTRICT values, int n, uint8_t *NET_RESTRICT bits)
{
    int c = 0;
#if defined(NET_AVX512) || defined(NET_AVX2)
    for (; c + 8 <= n; c += 8) {
        const __m256 below = _mm256_cmp_ps(_mm256_loadu_ps(values + c), _mm256_setzero_ps(), _CMP_LT_OQ);
        bits[c >> 3] = (uint8_t)_mm256_movemask_ps(below);
    }
#elif defined(NET_NEON)
    static const uint16_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint16x8_t weight = vld1q_u16(weights);
    for (; c + 8 <= n; c += 8) {
        const uint32x4_t low = vcltq_f32(vld1q_f32(values + c), vdupq_n_f32(0.0f));
        const uint32x4_t high = vcltq_f32(vld1q_f32(values + c + 4), vdupq_n_f32(0.0f));
        const uint16x8_t both = vandq_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)), weight);
#if defined(__aarch64__)
        bits[c >> 3] = (uint8_t)vaddvq_u16(both);
#else
        const uint64x2_t sum = vpaddlq_u32(vpaddlq_u16(both));
        bits[c >> 3] = (uint8_t)(vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1));
#endif
    }
#elif defined(NET_WASM)
    for (; c + 8 <= n; c += 8) {
        const v128_t zero = wasm_f32x4_splat(0.0f);
        const uint32_t low = wasm_i32x4_bitmask(wasm_f32x4_lt(wasm_v128_load(values + c), zero));
        const uint32_t high = wasm_i32x4_bitmask(wasm_f32x4_lt(wasm_v128_load(values + c + 4), zero));
        bits[c >> 3] = (uint8_t)(low | (high << 4));
    }
#endif
    for (; c < n; c += 8) {
        unsigned int byte = 0;
        int i;
        for (i = 0; i < 8 && c + i < n; ++i) {
            byte |= (values[c + i] < 0.0f ? 1u : 0u) << i;
        }
        bits[c >> 3] = (uint8_t)byte;
    }
}
