// Learning rates: eta = largest sigmoid(g) clip, clip = min(1, most / (n + floor)), n = sqrt(share s + floor).

struct RateParts {
    float gate, norm, ratio, clip;
};

__device__ RateParts rate_parts(float g, float s, float most, float share, float floor) {
    RateParts parts;
    parts.gate = 1.0f / (1.0f + expf(-g));
    parts.norm = sqrtf(floor + share * s);
    parts.ratio = most / (floor + parts.norm);
    // a NaN stays one, so that it shows
    parts.clip = parts.ratio >= 1.0f ? 1.0f : parts.ratio;
    return parts;
}

extern "C" __global__ void learning_rates(
    float* eta, float* gate, float* clip, const float* g, const float* s, float largest, float most, float share,
    float floor, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    RateParts parts = rate_parts(g[i], s[i], most, share, floor);
    eta[i] = largest * (parts.gate * parts.clip);
    gate[i] = parts.gate;
    clip[i] = parts.clip;
}

extern "C" __global__ void learning_rates_back(
    float* dg, float* ds, const float* g, const float* s, const float* grad, float largest, float most, float share,
    float floor, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    RateParts parts = rate_parts(g[i], s[i], most, share, floor);
    float by_part = largest * grad[i];
    dg[i] = by_part * parts.clip * (parts.gate - parts.gate * parts.gate);
    float by_norm = parts.ratio < 1.0f ? -(by_part * parts.gate * parts.ratio / (floor + parts.norm)) : 0.0f;
    ds[i] = share * (0.5f * (by_norm / parts.norm));
}
