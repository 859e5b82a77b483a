// Fast weights along a sequence: walks over F and over its derivative G, [batch, out, inp].
//
// A block of 8 warps takes 8 * R rows of each of a few episodes in turn; a warp's R rows of alpha stay in its
// registers meanwhile. A row is walked along N runs of V neighbours a thread at a time. F and G themselves are read
// once a walk, past the nearest cache. Sums along a row are a warp's; sums down the columns are a block's first and
// are put down for each block of rows apart, to be added up in their order.

struct FastWalk {
    // F or G as it is, and where it goes; the same for c or its derivative
    const float* from;
    float* to;
    const float* bias_from;
    float* bias_to;
    // the change, or null
    const float* eta;
    const float* p;
    const float* q;
    const float* alpha;
    const float* beta;
    // what is read with or null: [batch, inp] forward, [batch, out] back
    const float* x;
    // what is read: [batch, out] forward, [blocks of rows, batch, inp] back
    float* read;
    // forward, or null: what is read is added to base [batch, out] and a row [out], and goes to total [batch, out]
    const float* base;
    const float* row;
    float* total;
    // sums of squares by warps, [batch, 8 * blocks of rows], and, if `ends`, by episodes
    float* norms;
    float* norm;
    // back, if `ends`: what is read, [batch, inp], added to what was before, if anything
    const float* before;
    float* sum;
    unsigned batch, out, inp;
    // episodes of a block
    unsigned each;
    // whether F was zero before, and whether c is read too
    unsigned fresh, with_bias;
    // whether the last block of a group of episodes adds up what the others put down
    unsigned ends;
    unsigned unused;
};

const unsigned FAST_WARPS = 8;

// How many blocks of each group of episodes are done: back to zero when all are. One walk runs at a time.
__device__ unsigned fast_done[528];

// Whether this block is the last one of its group that is done. All its threads call it; what the others wrote can then be read,
// past the nearest cache.
__device__ bool fast_last() {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(fast_done + blockIdx.y, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    __threadfence();
    return last;
}

// The sum over `blocks` of parts `stride` apart, that other blocks wrote.
__device__ float fast_sum(const float* parts, unsigned blocks, size_t stride) {
    float sum = 0.0f;
#pragma unroll 8
    for (unsigned block = 0; block < blocks; ++block) sum += __ldcg(parts + block * stride);
    return sum;
}

// Where this thread's runs begin in a row, from column `tile` on.
template <unsigned V> __device__ unsigned fast_column(unsigned tile, unsigned n) {
    return tile + (n * 32 + threadIdx.x % 32) * V;
}

// A row's runs; zero beyond its end.
template <unsigned V, unsigned N> __device__ void get_row(
    Run<V> (&runs)[N], const float* row, unsigned tile, unsigned inp) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) {
        unsigned col = fast_column<V>(tile, n);
        runs[n] = Run<V>();
        if (row && col < inp) get(runs[n], row + col);
    }
}

template <unsigned V, unsigned R, unsigned N> __device__ void get_rows(
    Run<V> (&runs)[R][N], const float* rows, unsigned row, unsigned tile, unsigned out, unsigned inp, bool once) {
#pragma unroll
    for (unsigned r = 0; r < R; ++r) {
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            unsigned col = fast_column<V>(tile, n);
            runs[r][n] = Run<V>();
            if (row + r < out && col < inp) {
                const float* at = rows + (size_t)(row + r) * inp + col;
                if (once) get_once(runs[r][n], at); else get(runs[r][n], at);
            }
        }
    }
}

// F <- (1 - eta) F + eta alpha (p outer q), then y = F x, and c likewise.
template <unsigned V, unsigned R, unsigned N> __device__ void fast_forward(const FastWalk& s) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned row = (blockIdx.x * FAST_WARPS + warp) * R;
    unsigned first = blockIdx.y * s.each, last = min(first + s.each, s.batch);
    for (unsigned tile = 0; tile < s.inp; tile += 32 * V * N) {
        Run<V> alpha[R][N], q[N], x[N], f[R][N];
        if (s.eta) get_rows(alpha, s.alpha, row, tile, s.out, s.inp, false);
        for (unsigned e = first; e < last; ++e) {
            size_t base = (size_t)e * s.out * s.inp;
            if (!s.fresh) get_rows(f, s.from + base, row, tile, s.out, s.inp, true);
            get_row(x, s.x ? s.x + (size_t)e * s.inp : s.x, tile, s.inp);
            float eta = 0.0f;
            if (s.eta) {
                eta = s.eta[e];
                get_row(q, s.q + (size_t)e * s.inp, tile, s.inp);
            }
            float dots[R], norm = 0.0f;
#pragma unroll
            for (unsigned r = 0; r < R; ++r) {
                unsigned unit = e * s.out + row + r;
                bool here = row + r < s.out;
                float gain = s.eta && here ? eta * s.p[unit] : 0.0f;
                dots[r] = 0.0f;
#pragma unroll
                for (unsigned n = 0; n < N; ++n) {
#pragma unroll
                    for (unsigned i = 0; i < V; ++i) {
                        if (s.eta) {
                            float grown = gain * (alpha[r][n].x[i] * q[n].x[i]);
                            f[r][n].x[i] = s.fresh ? grown : fmaf(1.0f - eta, f[r][n].x[i], grown);
                        }
                        dots[r] = fmaf(f[r][n].x[i], x[n].x[i], dots[r]);
                        norm = fmaf(f[r][n].x[i], f[r][n].x[i], norm);
                    }
                    unsigned col = fast_column<V>(tile, n);
                    if (s.eta && here && col < s.inp) {
                        put(s.to + base + (size_t)(row + r) * s.inp + col, f[r][n]);
                    }
                }
            }
#pragma unroll
            for (unsigned r = 0; r < R; ++r) {
                dots[r] = warp_sum(dots[r]);
                if (lane != r || row + r >= s.out) continue;
                unsigned unit = e * s.out + row + r;
                float c = 0.0f;
                if (tile == 0 && s.eta) {
                    float grown = eta * (s.beta[row + r] * s.p[unit]);
                    c = s.fresh ? grown : (1.0f - eta) * s.bias_from[unit] + grown;
                    s.bias_to[unit] = c;
                } else if (tile == 0 && s.with_bias) {
                    c = s.bias_from[unit];
                }
                if (s.read) {
                    float before = tile > 0 ? s.read[unit] : s.with_bias ? c : 0.0f;
                    s.read[unit] = before + dots[r];
                    if (s.total && tile + 32 * V * N >= s.inp) {
                        s.total[unit] = s.base[unit] + s.row[row + r] + (before + dots[r]);
                    }
                }
            }
            if (s.norms) {
                norm = warp_sum(norm);
                float* sum = s.norms + ((size_t)e * gridDim.x + blockIdx.x) * FAST_WARPS + warp;
                if (lane == 0) *sum = tile > 0 ? *sum + norm : norm;
            }
        }
    }
    if (!s.ends || !s.norm || !fast_last()) return;
    for (unsigned e = first + warp; e < last; e += FAST_WARPS) {
        unsigned parts = gridDim.x * FAST_WARPS;
        float norm = 0.0f;
        for (unsigned i = lane; i < parts; i += 32) norm += __ldcg(s.norms + (size_t)e * parts + i);
        norm = warp_sum(norm);
        if (lane == 0) s.norm[e] = norm;
    }
}

// Puts down the block's sum of what its warps have of the columns from `tile` on. `parts` is one of two buffers,
// taken in turn, so that a block need not wait until all of it has been read.
template <unsigned V, unsigned N> __device__ void put_columns(
    float* to, float (&parts)[FAST_WARPS][32 * V * N], const Run<V> (&sums)[N], unsigned tile, unsigned inp) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) put(&parts[threadIdx.x / 32][fast_column<V>(0, n)], sums[n]);
    __syncthreads();
    for (unsigned col = threadIdx.x; col < 32 * V * N && tile + col < inp; col += 32 * FAST_WARPS) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned warp = 0; warp < FAST_WARPS; ++warp) sum += parts[warp][col];
        to[tile + col] = sum;
    }
}

// F <- (F - eta alpha (p outer q)) / (1 - eta), then F^T x, and c likewise.
template <unsigned V, unsigned R, unsigned N> __device__ void fast_backward(const FastWalk& s) {
    __shared__ __align__(16) float parts[2][FAST_WARPS][32 * V * N];
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, turn = 0;
    unsigned row = (blockIdx.x * FAST_WARPS + warp) * R;
    unsigned first = blockIdx.y * s.each, last = min(first + s.each, s.batch);
    for (unsigned tile = 0; tile < s.inp; tile += 32 * V * N) {
        Run<V> alpha[R][N], q[N], f[R][N], sums[N];
        if (s.eta) get_rows(alpha, s.alpha, row, tile, s.out, s.inp, false);
        for (unsigned e = first; e < last; ++e) {
            size_t base = (size_t)e * s.out * s.inp;
            get_rows(f, s.from + base, row, tile, s.out, s.inp, true);
            float eta = 0.0f;
            if (s.eta) {
                eta = s.eta[e];
                get_row(q, s.q + (size_t)e * s.inp, tile, s.inp);
            }
            float undo = 1.0f / (1.0f - eta);
#pragma unroll
            for (unsigned n = 0; n < N; ++n) sums[n] = Run<V>();
#pragma unroll
            for (unsigned r = 0; r < R; ++r) {
                if (row + r >= s.out) continue;
                unsigned unit = e * s.out + row + r;
                float gain = s.eta ? -eta * s.p[unit] * undo : 0.0f, g = s.x ? s.x[unit] : 0.0f;
#pragma unroll
                for (unsigned n = 0; n < N; ++n) {
#pragma unroll
                    for (unsigned i = 0; i < V; ++i) {
                        if (s.eta) {
                            float grown = gain * (alpha[r][n].x[i] * q[n].x[i]);
                            f[r][n].x[i] = fmaf(undo, f[r][n].x[i], grown);
                        }
                        sums[n].x[i] = fmaf(f[r][n].x[i], g, sums[n].x[i]);
                    }
                    unsigned col = fast_column<V>(tile, n);
                    if (s.eta && col < s.inp) put(s.to + base + (size_t)(row + r) * s.inp + col, f[r][n]);
                }
                if (s.eta && tile == 0 && lane == r) {
                    s.bias_to[unit] = (s.bias_from[unit] - eta * (s.beta[row + r] * s.p[unit])) * undo;
                }
            }
            if (s.read) {
                float* to = s.read + ((size_t)blockIdx.x * s.batch + e) * s.inp;
                put_columns(to, parts[turn], sums, tile, s.inp);
                turn ^= 1;
            }
        }
    }
    if (!s.ends || !s.sum || !fast_last()) return;
    for (unsigned e = first; e < last; ++e) {
        for (unsigned i = threadIdx.x; i < s.inp; i += blockDim.x) {
            size_t at = (size_t)e * s.inp + i;
            float sum = fast_sum(s.read + at, gridDim.x, (size_t)s.batch * s.inp);
            s.sum[at] = s.before ? s.before[at] + sum : sum;
        }
    }
}

struct FastEnd {
    // S, [batch], and what its terms are: values read, [batch, out] or, if `transposed`, [batch, inp]
    float* inner;
    const float* value[4];
    // derivatives by eta, [batch], what that is added to, if anything, and by q, [batch, inp]; that by p is in the place of a
    float* d_eta;
    const float* before;
    float* dq;
    // whether the last block of a group of episodes does this, and which values are of transposed reads, a bit each
    unsigned ends, transposed;
};

struct FastBack {
    const float* from;
    float* to;
    const float* bias_from;
    float* bias_to;
    // the later update's, by which G decays, or null
    const float* decay;
    // shares of G: left [batch, out], right [batch, inp]
    const float* left[4];
    const float* right[4];
    // the change, or null if G alone is to change
    const float* eta;
    const float* p;
    const float* q;
    const float* alpha;
    const float* beta;
    // (G alpha) q + beta gc [batch, out], and (G alpha)^T p [blocks of rows, batch, inp]
    float* a;
    float* b;
    // derivatives by alpha [groups of episodes, out, inp] and by beta [groups of episodes, out], to be added to
    float* by_alpha;
    float* by_beta;
    unsigned batch, out, inp;
    unsigned each;
    // whether G was zero before; how many shares there are; whose left is one of the derivative by c, a bit each
    unsigned fresh, terms, biases;
    unsigned unused;
    FastEnd end;
};

// What is left of the way back through an update for an episode: S <- S - eta p·a, d_eta = p·a - S / (1 - eta), added to what was
// before, if anything, dp = eta a (in place) and dq = eta sum of b over `blocks` of rows. A block's threads call it together.
__device__ void fast_end(
    float* inner, float* d_eta, const float* before, float* a, float* dq, const float* b, const float* eta,
    const float* p, unsigned e, unsigned batch, unsigned out, unsigned inp, unsigned blocks) {
    float along = 0.0f, rate = eta[e];
    for (unsigned i = threadIdx.x; i < out; i += blockDim.x) {
        size_t unit = (size_t)e * out + i;
        float by = __ldcg(a + unit);
        along += p[unit] * by;
        a[unit] = by * rate;
    }
    along = combine(along, Sum());
    if (threadIdx.x == 0) {
        float s = inner[e] - rate * along, by_eta = along - s / (1.0f - rate);
        inner[e] = s;
        d_eta[e] = before ? before[e] + by_eta : by_eta;
    }
    for (unsigned i = threadIdx.x; i < inp; i += blockDim.x) {
        size_t at = (size_t)e * inp + i;
        dq[at] = rate * fast_sum(b + at, blocks, (size_t)batch * inp);
    }
}

// G <- keep G + sum of left outer right, then what an update's derivatives are made of.
template <unsigned V, unsigned R, unsigned N> __device__ void fast_credit(const FastBack& s) {
    __shared__ __align__(16) float parts[2][FAST_WARPS][32 * V * N];
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, turn = 0;
    unsigned row = (blockIdx.x * FAST_WARPS + warp) * R;
    unsigned first = blockIdx.y * s.each, last = min(first + s.each, s.batch);
    for (unsigned tile = 0; tile < s.inp; tile += 32 * V * N) {
        Run<V> alpha[R][N], by_alpha[R][N], g[R][N], q[N], sums[N];
        float by_beta = 0.0f;
        if (s.eta) get_rows(alpha, s.alpha, row, tile, s.out, s.inp, false);
#pragma unroll
        for (unsigned r = 0; r < R; ++r) {
#pragma unroll
            for (unsigned n = 0; n < N; ++n) by_alpha[r][n] = Run<V>(), g[r][n] = Run<V>();
        }
        for (unsigned e = first; e < last; ++e) {
            size_t base = (size_t)e * s.out * s.inp;
            if (!s.fresh) get_rows(g, s.from + base, row, tile, s.out, s.inp, true);
            float keep = s.decay ? 1.0f - s.decay[e] : 1.0f, eta = s.eta ? s.eta[e] : 0.0f;
            if (s.fresh) keep = 0.0f;
            if (s.eta) get_row(q, s.q + (size_t)e * s.inp, tile, s.inp);
#pragma unroll
            for (unsigned n = 0; n < N; ++n) sums[n] = Run<V>();
#pragma unroll
            for (unsigned r = 0; r < R; ++r) {
#pragma unroll
                for (unsigned n = 0; n < N; ++n) {
#pragma unroll
                    for (unsigned i = 0; i < V; ++i) g[r][n].x[i] *= keep;
                }
            }
            for (unsigned term = 0; term < s.terms; ++term) {
                Run<V> right[N];
                get_row(right, s.right[term] + (size_t)e * s.inp, tile, s.inp);
#pragma unroll
                for (unsigned r = 0; r < R; ++r) {
                    float left = row + r < s.out ? s.left[term][e * s.out + row + r] : 0.0f;
#pragma unroll
                    for (unsigned n = 0; n < N; ++n) {
#pragma unroll
                        for (unsigned i = 0; i < V; ++i) {
                            g[r][n].x[i] = fmaf(left, right[n].x[i], g[r][n].x[i]);
                        }
                    }
                }
            }
#pragma unroll
            for (unsigned r = 0; r < R; ++r) {
                if (row + r >= s.out) continue;
                unsigned unit = e * s.out + row + r;
                float p = s.eta ? s.p[unit] : 0.0f, gain = eta * p, along = 0.0f;
#pragma unroll
                for (unsigned n = 0; n < N; ++n) {
                    unsigned col = fast_column<V>(tile, n);
                    if (col < s.inp) put(s.to + base + (size_t)(row + r) * s.inp + col, g[r][n]);
                    if (!s.eta) continue;
#pragma unroll
                    for (unsigned i = 0; i < V; ++i) {
                        float scaled = g[r][n].x[i] * alpha[r][n].x[i];
                        by_alpha[r][n].x[i] = fmaf(gain * q[n].x[i], g[r][n].x[i], by_alpha[r][n].x[i]);
                        sums[n].x[i] = fmaf(scaled, p, sums[n].x[i]);
                        along = fmaf(scaled, q[n].x[i], along);
                    }
                }
                if (s.eta) along = warp_sum(along);
                if (lane != r) continue;
                float gc = 0.0f;
                if (tile == 0) {
                    if (!s.fresh) gc = keep * s.bias_from[unit];
                    for (unsigned term = 0; term < s.terms; ++term) {
                        if (s.biases >> term & 1) gc += s.left[term][unit];
                    }
                    s.bias_to[unit] = gc;
                }
                if (!s.eta) continue;
                by_beta = fmaf(gain, gc, by_beta);
                s.a[unit] = tile > 0 ? s.a[unit] + along : along + s.beta[row + r] * gc;
            }
            if (s.eta) {
                float* to = s.b + ((size_t)blockIdx.x * s.batch + e) * s.inp;
                put_columns(to, parts[turn], sums, tile, s.inp);
                turn ^= 1;
            }
        }
        if (!s.eta) continue;
#pragma unroll
        for (unsigned r = 0; r < R; ++r) {
            if (row + r >= s.out) continue;
            size_t unit = (size_t)blockIdx.y * s.out + row + r;
            if (tile == 0 && lane == r) s.by_beta[unit] += by_beta;
#pragma unroll
            for (unsigned n = 0; n < N; ++n) {
                unsigned col = fast_column<V>(tile, n);
                if (col >= s.inp) continue;
                Run<V> sum;
                get(sum, s.by_alpha + unit * s.inp + col);
#pragma unroll
                for (unsigned i = 0; i < V; ++i) sum.x[i] += by_alpha[r][n].x[i];
                put(s.by_alpha + unit * s.inp + col, sum);
            }
        }
    }
    if (!s.end.ends || !fast_last()) return;
    for (unsigned e = first; e < last; ++e) {
        float inner = 0.0f;
        for (unsigned term = 0; term < s.terms; ++term) {
            bool transposed = s.end.transposed >> term & 1;
            unsigned width = transposed ? s.inp : s.out;
            const float* by = (transposed ? s.right[term] : s.left[term]) + (size_t)e * width;
            const float* value = s.end.value[term] + (size_t)e * width;
            for (unsigned i = threadIdx.x; i < width; i += blockDim.x) inner += by[i] * value[i];
        }
        inner = combine(inner, Sum());
        if (threadIdx.x == 0) s.end.inner[e] += inner;
        if (!s.eta) continue;
        fast_end(
            s.end.inner, s.end.d_eta, s.end.before, s.a, s.end.dq, s.b, s.eta, s.p, e, s.batch, s.out, s.inp, gridDim.x);
    }
}

#define FAST_KERNELS(NAME, V, R, N)                                                                                \
    extern "C" __global__ void __launch_bounds__(256) fast_forward_##NAME(FastWalk s) { fast_forward<V, R, N>(s); }   \
    extern "C" __global__ void __launch_bounds__(256) fast_backward_##NAME(FastWalk s) { fast_backward<V, R, N>(s); } \
    extern "C" __global__ void __launch_bounds__(256) fast_credit_##NAME(FastBack s) { fast_credit<V, R, N>(s); }

// rows of up to 128 elements, and of up to 256, in runs of 4; any others. A warp has four runs of F in flight.
FAST_KERNELS(short, 4, 4, 1)
FAST_KERNELS(long, 4, 2, 2)
FAST_KERNELS(any, 1, 4, 1)

// The end of the way back through an update, a block an episode.
extern "C" __global__ void fast_credit_end(
    float* inner, float* d_eta, const float* before, float* a, float* dq, const float* b, const float* eta,
    const float* p, unsigned batch, unsigned out, unsigned inp, unsigned blocks) {
    fast_end(inner, d_eta, before, a, dq, b, eta, p, blockIdx.x, batch, out, inp, blocks);
}

// Adds each episode's <a, b> to its sum, a warp an episode.
extern "C" __global__ void add_inner(float* sums, const float* a, const float* b, unsigned batch, unsigned width) {
    unsigned e = element() / 32;
    if (e >= batch) return;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < width; i += 32) sum += a[(size_t)e * width + i] * b[(size_t)e * width + i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[e] += sum;
}
