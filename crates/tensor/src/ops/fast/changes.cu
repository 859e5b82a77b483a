// Fast weights by their changes: F is not formed. After changes (eta, p, q) it is
// F = sum of w(s) alpha (p_s outer q_s), w(s) = eta_s times the (1 - eta) of all later ones, so F x = sum of w(s) p_s (alpha (q_s x)): a
// product of matrices whose rows are all the pairs of a change and a read. Products are made on the matrix units, of
// numbers in two halves each (hi hi + hi lo + lo hi), which keeps all but the last bits of single precision.

const unsigned FAST_CHANGES = 40;
const unsigned FAST_TERMS = 80;
const unsigned FAST_PAIRS = FAST_CHANGES * FAST_TERMS / 2 + FAST_TERMS;

// Rows and columns of a block's share of a product, and how much of what is summed over is taken at once.
const unsigned MIX = 128, MIX_DEPTH = 32;
// How far rows lie apart in shared memory, so that no two threads of a warp want one bank.
const unsigned MIX_NARROW = MIX_DEPTH + 4, MIX_WIDE = MIX + 8;

// d += a b: a 16 by 8, b 8 by 8, d 16 by 8, spread over a warp.
__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// A number's first 11 bits, and the rest of it.
__device__ void split(float x, unsigned& hi, unsigned& lo) {
    hi = __float_as_uint(x) & 0xffffe000u;
    lo = __float_as_uint(x - __uint_as_float(hi));
}

// One warp's share of a block's product, 32 rows by 64 columns, over MIX_DEPTH terms. WIDE: whether shared memory has the terms'
// rows, of 128, one after the other, and not 128 rows of terms.
template <bool WIDE_A, bool WIDE_B> __device__ void mix_product(
    float (&sums)[2][8][4], const float* a, const float* b, unsigned row, unsigned col) {
    unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned k = 0; k < MIX_DEPTH; k += 8) {
        unsigned a_hi[2][4], a_lo[2][4];
#pragma unroll
        for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                unsigned r = row + 16 * m + g + 8 * (i % 2), c = k + t + 4 * (i / 2);
                split(WIDE_A ? a[c * MIX_WIDE + r] : a[r * MIX_NARROW + c], a_hi[m][i], a_lo[m][i]);
            }
        }
#pragma unroll
        for (unsigned n = 0; n < 8; ++n) {
            unsigned b_hi[2], b_lo[2];
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
                unsigned r = col + 8 * n + g, c = k + t + 4 * i;
                split(WIDE_B ? b[c * MIX_WIDE + r] : b[r * MIX_NARROW + c], b_hi[i], b_lo[i]);
            }
#pragma unroll
            for (unsigned m = 0; m < 2; ++m) {
                // the units cut sums off and do not round them: long ones are added up here
                float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
                multiply_add(part, a_lo[m], b_hi);
                multiply_add(part, a_hi[m], b_lo);
                multiply_add(part, a_hi[m], b_hi);
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) sums[m][n][i] += part[i];
            }
        }
    }
}

// Four neighbours from `at` on, zero from `len` on; one by one where rows are not made of fours.
__device__ float4 get_four(const float* row, unsigned at, unsigned len) {
    if (len % 4 == 0) return at < len ? *(const float4*)(row + at) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (at < len) four.x = row[at];
    if (at + 1 < len) four.y = row[at + 1];
    if (at + 2 < len) four.z = row[at + 2];
    if (at + 3 < len) four.w = row[at + 3];
    return four;
}

__device__ float4 times(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }

struct FastMix {
    // by entries: [batch, width], and [batch, depth]
    const float* outer[FAST_TERMS];
    const float* inner[FAST_TERMS];
    // rates, [batch] each
    const float* eta[FAST_CHANGES];
    // of entries that are reads: by how many of the rates they decay, and whether the bias is in them
    unsigned char decays[FAST_TERMS];
    unsigned char biases[FAST_TERMS];
    // [batch, depth] and, with a bias, [width]
    const float* x;
    const float* alpha;
    const float* beta;
    // [batch, width]
    float* out;
    unsigned batch, width, depth, count, rates;
    // 0: entries are the changes so far, each with its rate; 1: the same, and the last is the next one, for the norm; 2: they are reads
    unsigned kind;
    // episodes of a block: it has no more than 128 entries of them, and rates
    unsigned each;
    unsigned unused;
};

// An entry's weight, given its episode's rates.
__device__ float fast_weight(const FastMix& s, unsigned entry, const float* eta) {
    float weight = 1.0f;
    if (s.kind == 2) {
        for (unsigned r = 0; r < s.decays[entry]; ++r) weight *= 1.0f - eta[r];
        return weight;
    }
    unsigned changes = s.rates - s.kind;
    if (entry == changes) return 0.5f * eta[entry] / (1.0f - eta[entry]);
    for (unsigned r = entry + 1; r < changes; ++r) weight *= 1.0f - eta[r];
    return weight * eta[entry];
}

// out = sum over entries of w (alpha (inner x) + beta) outer; of alpha transposed, or of its squares.
template <bool TRANSPOSED, bool SQUARED> __device__ void fast_mix(const FastMix& s) {
    __shared__ __align__(16) float a[MIX * MIX_NARROW];
    __shared__ __align__(16) float b[TRANSPOSED ? MIX_DEPTH * MIX_WIDE : MIX * MIX_NARROW];
    // by rows of the product, a pair of an episode and an entry each
    __shared__ const float *inner[MIX], *xs[MIX], *outer[MIX], *betas[MIX];
    __shared__ float weights[MIX], eta[MIX];
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x;
    unsigned first = blockIdx.x * s.each, col0 = blockIdx.y * MIX;
    if (thread < s.each * s.rates) {
        unsigned e = first + thread / s.rates;
        eta[thread] = e < s.batch ? s.eta[thread % s.rates][e] : 0.0f;
    }
    __syncthreads();
    if (thread < MIX) {
        unsigned entry = thread % s.count, episode = thread / s.count, e = first + episode;
        bool here = episode < s.each && e < s.batch;
        inner[thread] = here ? s.inner[entry] + (size_t)e * s.depth : nullptr;
        xs[thread] = here ? s.x + (size_t)e * s.depth : nullptr;
        outer[thread] = here ? s.outer[entry] + (size_t)e * s.width : nullptr;
        betas[thread] = here && (s.kind != 2 || s.biases[entry]) ? s.beta : nullptr;
        weights[thread] = here ? fast_weight(s, entry, eta + episode * s.rates) : 0.0f;
    }
    float sums[2][8][4];
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
        for (unsigned n = 0; n < 8; ++n) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
    }
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (unsigned k = 0; k < s.depth; k += MIX_DEPTH) {
        // eight threads a row of 32, so that a warp reads whole lines; everything is on its way before the first is waited for
        unsigned at = thread % 8 * 4;
        float4 left[4], right[4], by[4];
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            unsigned row = thread / 8 + 32 * i;
            const float *from = inner[row], *x = xs[row];
            left[i] = from ? get_four(from, k + at, s.depth) : zero;
            right[i] = from ? get_four(x, k + at, s.depth) : zero;
            by[i] = zero;
            if (TRANSPOSED) {
                unsigned term = k + thread / 8;
                if (term < s.depth) by[i] = get_four(s.alpha + (size_t)term * s.width, col0 + at + 32 * i, s.width);
            } else if (col0 + row < s.width) {
                by[i] = get_four(s.alpha + (size_t)(col0 + row) * s.depth, k + at, s.depth);
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            unsigned row = thread / 8 + 32 * i;
            *(float4*)(a + row * MIX_NARROW + at) = times(left[i], right[i]);
            if (SQUARED) by[i] = times(by[i], by[i]);
            *(float4*)(TRANSPOSED ? b + thread / 8 * MIX_WIDE + at + 32 * i : b + row * MIX_NARROW + at) = by[i];
        }
        __syncthreads();
        mix_product<false, TRANSPOSED>(sums, a, b, warp / 2 * 32, warp % 2 * 64);
    }
    // rows are weighed, and those of an episode added up, 32 columns at a time
    unsigned g = thread % 32 / 4, t = thread % 4;
#pragma unroll
    for (unsigned part = 0; part < 4; ++part) {
        float by[2][2][2][2];
#pragma unroll
        for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                const float* from = outer[warp / 2 * 32 + 16 * m + 8 * half + g];
#pragma unroll
                for (unsigned n = 0; n < 2; ++n) {
#pragma unroll
                    for (unsigned i = 0; i < 2; ++i) {
                        unsigned col = col0 + warp % 2 * 64 + part * 16 + 8 * n + 2 * t + i;
                        by[m][half][n][i] = from && col < s.width ? from[col] : 0.0f;
                    }
                }
            }
        }
        __syncthreads();
#pragma unroll
        for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                unsigned row = warp / 2 * 32 + 16 * m + 8 * half + g;
                const float* beta = betas[row];
                float weight = weights[row];
#pragma unroll
                for (unsigned n = 0; n < 2; ++n) {
#pragma unroll
                    for (unsigned i = 0; i < 2; ++i) {
                        unsigned col = col0 + warp % 2 * 64 + part * 16 + 8 * n + 2 * t + i;
                        float value = sums[m][part * 2 + n][2 * half + i];
                        if (beta && col < s.width) value += beta[col];
                        a[row * MIX_NARROW + warp % 2 * 16 + 8 * n + 2 * t + i] = value * weight * by[m][half][n][i];
                    }
                }
            }
        }
        __syncthreads();
        for (unsigned i = thread; i < 32 * s.each; i += blockDim.x) {
            unsigned at = i % 32, e = i / 32, col = col0 + at / 16 * 64 + part * 16 + at % 16;
            if (first + e >= s.batch || col >= s.width) continue;
            float sum = 0.0f;
            for (unsigned j = 0; j < s.count; ++j) sum += a[(e * s.count + j) * MIX_NARROW + at];
            s.out[(size_t)(first + e) * s.width + col] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) fast_mix(const __grid_constant__ FastMix s) {
    fast_mix<false, false>(s);
}
extern "C" __global__ void __launch_bounds__(256, 2) fast_mix_transposed(const __grid_constant__ FastMix s) {
    fast_mix<true, false>(s);
}
extern "C" __global__ void __launch_bounds__(256, 2) fast_mix_squared(const __grid_constant__ FastMix s) {
    fast_mix<false, true>(s);
}

struct FastPairs {
    // reads: [batch, out] and [batch, inp]
    const float* left[FAST_TERMS];
    const float* right[FAST_TERMS];
    // changes: [batch, out], [batch, inp] and [batch]
    const float* p[FAST_CHANGES];
    const float* q[FAST_CHANGES];
    const float* eta[FAST_CHANGES];
    // how many changes a read comes after, and whether the bias was read; reads in that order
    unsigned char versions[FAST_TERMS];
    unsigned char biases[FAST_TERMS];
    // [gridDim.y, out, inp] and [gridDim.y, out]
    float* by_alpha;
    float* by_beta;
    unsigned batch, out, inp, changes, terms;
    unsigned unused;
};

// The derivatives by alpha and beta: sums over episodes and over pairs of a change and a read after it. blockIdx.x is a square of
// alpha, blockIdx.y takes every gridDim.y-th episode.
extern "C" __global__ void __launch_bounds__(256, 2) fast_pairs(const __grid_constant__ FastPairs s) {
    __shared__ __align__(16) float a[MIX_DEPTH * MIX_WIDE];
    __shared__ __align__(16) float b[MIX_DEPTH * MIX_WIDE];
    __shared__ float weights[FAST_PAIRS], eta[FAST_CHANGES];
    __shared__ unsigned char change_of[FAST_PAIRS];
    __shared__ unsigned char term_of[FAST_PAIRS];
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x;
    unsigned squares = (s.inp + MIX - 1) / MIX;
    unsigned row0 = blockIdx.x / squares * MIX, col0 = blockIdx.x % squares * MIX;
    // where each change's pairs begin: a thread a change
    unsigned begin = 0, from = 0, pairs = 0;
    for (unsigned c = 0, after = 0; c < s.changes; ++c) {
        while (after < s.terms && s.versions[after] <= c) ++after;
        if (c == thread) begin = pairs, from = after;
        pairs += s.terms - after;
    }
    if (thread < s.changes) {
        for (unsigned term = from; term < s.terms; ++term) {
            change_of[begin + term - from] = thread;
            term_of[begin + term - from] = term;
        }
    }
    float sums[2][8][4], by_beta = 0.0f;
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
        for (unsigned n = 0; n < 8; ++n) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
    }
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (unsigned e = blockIdx.y; e < s.batch; e += gridDim.y) {
        __syncthreads();
        if (thread < s.changes) eta[thread] = s.eta[thread][e];
        __syncthreads();
        if (thread < s.changes) {
            float weight = eta[thread];
            for (unsigned term = from, r = thread + 1; term < s.terms; ++term) {
                for (; r < s.versions[term]; ++r) weight *= 1.0f - eta[r];
                weights[begin + term - from] = weight;
            }
        }
        for (unsigned k = 0; k < pairs; k += MIX_DEPTH) {
            // eight threads a pair; everything is on its way before the first is waited for
            unsigned pair = k + thread / 8, at = thread % 8 * 4;
            bool here = pair < pairs;
            unsigned change = here ? change_of[pair] : 0, term = here ? term_of[pair] : 0;
            const float *p = s.p[change] + (size_t)e * s.out, *left = s.left[term] + (size_t)e * s.out;
            const float *q = s.q[change] + (size_t)e * s.inp, *right = s.right[term] + (size_t)e * s.inp;
            float4 by_out[4], by_inp[4];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                by_out[i] = here ? get_four(p, row0 + at + 32 * i, s.out) : zero;
                by_inp[i] = here ? get_four(left, row0 + at + 32 * i, s.out) : zero;
            }
            __syncthreads();
            float weight = here ? weights[pair] : 0.0f;
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                by_out[i] = times(times(by_out[i], by_inp[i]), make_float4(weight, weight, weight, weight));
                *(float4*)(a + thread / 8 * MIX_WIDE + at + 32 * i) = by_out[i];
                by_out[i] = here ? get_four(q, col0 + at + 32 * i, s.inp) : zero;
                by_inp[i] = here ? get_four(right, col0 + at + 32 * i, s.inp) : zero;
            }
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                *(float4*)(b + thread / 8 * MIX_WIDE + at + 32 * i) = times(by_out[i], by_inp[i]);
            }
            __syncthreads();
            if (col0 == 0 && thread < MIX) {
                for (unsigned i = 0; i < MIX_DEPTH && k + i < pairs; ++i) {
                    if (s.biases[term_of[k + i]]) by_beta += a[i * MIX_WIDE + thread];
                }
            }
            mix_product<true, true>(sums, a, b, warp / 2 * 32, warp % 2 * 64);
        }
    }
    unsigned g = thread % 32 / 4, t = thread % 4;
    size_t part = (size_t)blockIdx.y * s.out;
    if (col0 == 0 && thread < MIX && row0 + thread < s.out) s.by_beta[part + row0 + thread] = by_beta;
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
        for (unsigned n = 0; n < 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                unsigned row = row0 + warp / 2 * 32 + 16 * m + 8 * (i / 2) + g;
                unsigned col = col0 + warp % 2 * 64 + 8 * n + 2 * t + i % 2;
                if (row < s.out && col < s.inp) s.by_alpha[(part + row) * s.inp + col] = sums[m][n][i];
            }
        }
    }
}

// norm <- (1 - eta)^2 norm + 2 (1 - eta) eta p·mixed, a warp an episode; from `before`, or from zero.
extern "C" __global__ void fast_next_norm(
    float* norm, const float* before, const float* eta, const float* p, const float* mixed, unsigned batch,
    unsigned out) {
    unsigned e = element() / 32;
    if (e >= batch) return;
    float along = 0.0f, rate = eta[e];
    for (unsigned i = threadIdx.x % 32; i < out; i += 32) along += p[(size_t)e * out + i] * mixed[(size_t)e * out + i];
    along = warp_sum(along);
    float keep = 1.0f - rate;
    if (threadIdx.x % 32 == 0) norm[e] = keep * keep * (before ? before[e] : 0.0f) + 2.0f * keep * rate * along;
}
