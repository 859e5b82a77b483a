// Fast weights by their changes, where all of them are known: F, or the derivative by it, goes from change to change in registers,
// 8 by 4 numbers of it a thread and 64 by 128 a block, and is nowhere else.

const unsigned SWEEP_ROWS = 64, SWEEP_COLS = 128;

// N neighbours from `at` on, zero from `len` on.
template <bool FOURS, unsigned N> __device__ void get_fours(float (&to)[N], const float* row, unsigned at, unsigned len) {
#pragma unroll
    for (unsigned i = 0; i < N; i += 4) {
        float4 four = get_four<FOURS>(row, at + i, len);
        to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
}

// Brings a line of memory near.
__device__ void fetch(const float* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

struct FastNorms {
    // changes: [batch, out], [batch, inp] and [batch]
    const float* p[FAST_CHANGES];
    const float* q[FAST_CHANGES];
    const float* eta[FAST_CHANGES];
    // [batch] after each change from `first` on
    float* norms[FAST_CHANGES];
    // [out, inp]
    const float* alpha;
    unsigned batch, out, inp, changes, first;
    unsigned unused;
};

template <bool FOURS> __device__ void fast_norms(const FastNorms& s) {
    // by changes and warps
    __shared__ float norms[FAST_CHANGES][8];
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x, lane = thread % 32, e = blockIdx.x;
    for (unsigned i = thread; i < 8 * s.changes; i += blockDim.x) norms[i / 8][i % 8] = 0.0f;
    __syncthreads();
    for (unsigned row = warp * 8; row < s.out; row += SWEEP_ROWS) {
        for (unsigned col0 = 0; col0 < s.inp; col0 += SWEEP_COLS) {
            unsigned col = col0 + lane * 4;
            float alpha[8][4], f[8][4];
#pragma unroll
            for (unsigned r = 0; r < 8; ++r) {
                f[r][0] = f[r][1] = f[r][2] = f[r][3] = 0.0f;
                // p is zero beyond the last
                get_fours<FOURS>(alpha[r], s.alpha + (size_t)min(row + r, s.out - 1) * s.inp, col, s.inp);
            }
            for (unsigned change = 0; change < s.changes; ++change) {
                float p[8], q[4], eta = __ldg(s.eta[change] + e), keep = 1.0f - eta, norm = 0.0f;
                get_fours<FOURS>(p, s.p[change] + (size_t)e * s.out, row, s.out);
                get_fours<FOURS>(q, s.q[change] + (size_t)e * s.inp, col, s.inp);
#pragma unroll
                for (unsigned r = 0; r < 8; ++r) {
                    float by = eta * p[r];
#pragma unroll
                    for (unsigned c = 0; c < 4; ++c) {
                        f[r][c] = keep * f[r][c] + by * q[c] * alpha[r][c];
                        norm += f[r][c] * f[r][c];
                    }
                }
                if (change < s.first) continue;
                norm = warp_sum(norm);
                if (lane == 0) norms[change][warp] += norm;
            }
        }
    }
    __syncthreads();
    if (thread >= s.first && thread < s.changes) {
        float sum = 0.0f;
        for (unsigned w = 0; w < 8; ++w) sum += norms[thread][w];
        s.norms[thread][e] = sum;
    }
}

// |F|^2 after each of some changes: a block an episode.
extern "C" __global__ void __launch_bounds__(256, 2) fast_norms(const __grid_constant__ FastNorms s) {
    if (s.out % 4 == 0 && s.inp % 4 == 0) fast_norms<true>(s);
    else fast_norms<false>(s);
}

struct FastPlastic {
    // changes: [batch, out], [batch, inp] and [batch]
    const float* p[FAST_CHANGES];
    const float* q[FAST_CHANGES];
    const float* eta[FAST_CHANGES];
    // reads: [batch, out] and [batch, inp]
    const float* left[FAST_TERMS];
    const float* right[FAST_TERMS];
    // how many changes a read comes after, and whether the bias was read; reads in that order
    unsigned char versions[FAST_TERMS];
    unsigned char biases[FAST_TERMS];
    // [gridDim.y, out, inp] and [gridDim.y, out]
    float* by_alpha;
    float* by_beta;
    unsigned batch, out, inp, changes, terms;
    unsigned unused;
};

template <bool FOURS> __device__ void fast_plastic(const FastPlastic& s) {
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x, lane = thread % 32;
    unsigned across = (s.inp + SWEEP_COLS - 1) / SWEEP_COLS;
    unsigned row0 = blockIdx.x / across * SWEEP_ROWS, col0 = blockIdx.x % across * SWEEP_COLS;
    unsigned row = row0 + warp * 8, col = col0 + lane * 4;
    // beta is the first blocks', one of a warp's rows a lane
    bool biased = col0 == 0 && lane < 8 && row + lane < s.out;
    float sums[8][4], bias_sum = 0.0f;
#pragma unroll
    for (unsigned r = 0; r < 8; ++r) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = 0.0f;
    for (unsigned e = blockIdx.y; e < s.batch; e += gridDim.y) {
        size_t out = (size_t)e * s.out, inp = (size_t)e * s.inp, next = (size_t)e + gridDim.y;
        // the next episode's numbers, two lines of rows and four of columns, are brought near meanwhile
        for (unsigned i = thread; next < s.batch && i < 6 * (s.changes + s.terms); i += blockDim.x) {
            unsigned which = i / 6, line = i % 6;
            bool change = which < s.changes;
            const float* outs = change ? s.p[which] : s.left[which - s.changes];
            const float* inps = change ? s.q[which] : s.right[which - s.changes];
            unsigned at = line < 2 ? row0 + 32 * line : col0 + 32 * (line - 2), len = line < 2 ? s.out : s.inp;
            if (at < len) fetch((line < 2 ? outs : inps) + next * len + at);
        }
        // the derivative by F, from the last change to the first
        float g[8][4], bias_g = 0.0f, keep = 0.0f;
#pragma unroll
        for (unsigned r = 0; r < 8; ++r) g[r][0] = g[r][1] = g[r][2] = g[r][3] = 0.0f;
        for (unsigned change = s.changes, term = s.terms; change-- > 0;) {
            float p[8], q[4], eta = __ldg(s.eta[change] + e);
            get_fours<FOURS>(p, s.p[change] + out, row, s.out);
            get_fours<FOURS>(q, s.q[change] + inp, col, s.inp);
            float bias_p = biased ? __ldg(s.p[change] + out + row + lane) : 0.0f;
            bias_g *= keep;
#pragma unroll
            for (unsigned r = 0; r < 8; ++r) {
#pragma unroll
                for (unsigned c = 0; c < 4; ++c) g[r][c] *= keep;
            }
            for (; term > 0 && s.versions[term - 1] > change; --term) {
                float left[8], right[4];
                get_fours<FOURS>(left, s.left[term - 1] + out, row, s.out);
                get_fours<FOURS>(right, s.right[term - 1] + inp, col, s.inp);
                if (biased && s.biases[term - 1]) bias_g += __ldg(s.left[term - 1] + out + row + lane);
#pragma unroll
                for (unsigned r = 0; r < 8; ++r) {
#pragma unroll
                    for (unsigned c = 0; c < 4; ++c) g[r][c] += left[r] * right[c];
                }
            }
            bias_sum += eta * bias_p * bias_g;
#pragma unroll
            for (unsigned r = 0; r < 8; ++r) {
                float by = eta * p[r];
#pragma unroll
                for (unsigned c = 0; c < 4; ++c) sums[r][c] += by * (q[c] * g[r][c]);
            }
            keep = 1.0f - eta;
        }
    }
    size_t part = (size_t)blockIdx.y * s.out;
    if (biased) s.by_beta[part + row + lane] = bias_sum;
#pragma unroll
    for (unsigned r = 0; r < 8; ++r) {
#pragma unroll
        for (unsigned c = 0; c < 4; ++c) {
            if (row + r < s.out && col + c < s.inp) s.by_alpha[(part + row + r) * s.inp + col + c] = sums[r][c];
        }
    }
}

// The derivatives by alpha and beta, summed over episodes and changes. blockIdx.x is a share of alpha, blockIdx.y takes every
// gridDim.y-th episode.
extern "C" __global__ void __launch_bounds__(256, 2) fast_plastic(const __grid_constant__ FastPlastic s) {
    if (s.out % 4 == 0 && s.inp % 4 == 0) fast_plastic<true>(s);
    else fast_plastic<false>(s);
}
