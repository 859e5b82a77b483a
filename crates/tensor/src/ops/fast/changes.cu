// Fast weights by their changes: F is not formed. After changes (eta, p, q) it is
// F = sum of w(s) alpha (p_s outer q_s), w(s) = eta_s times the (1 - eta) of all later ones, so F x = sum of w(s) p_s (alpha (q_s x)): a
// product of matrices whose rows are all the pairs of a change and a read. Products are made on the matrix units, of
// numbers in two halves each (hi hi + hi lo + lo hi), which keeps all but the last bits of single precision.

const unsigned FAST_CHANGES = 40;
const unsigned FAST_TERMS = 80;

// Rows and columns of a block's share of a product, and how much of what is summed over is taken at once.
const unsigned MIX = 128, MIX_DEPTH = 32;
// Bytes from a row of shared memory to the next, each of upper halves and then the lower ones: no two of eight rows want one bank.
const unsigned MIX_ROW = 4 * MIX_DEPTH + 16;
// How far rows of results lie apart there, likewise.
const unsigned MIX_RESULTS = 64 + 8;

// Four neighbours from `at` on, zero from `len` on. FOURS: rows are made of fours.
template <bool FOURS> __device__ float4 get_four(const float* row, unsigned at, unsigned len) {
    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (FOURS) {
        if (at < len) four = __ldg((const float4*)(row + at));
        return four;
    }
    if (at < len) four.x = __ldg(row + at);
    if (at + 1 < len) four.y = __ldg(row + at + 1);
    if (at + 2 < len) four.z = __ldg(row + at + 2);
    if (at + 3 < len) four.w = __ldg(row + at + 3);
    return four;
}

// The same of what is read once.
template <bool FOURS> __device__ float4 get_four_once(const float* row, unsigned at, unsigned len) {
    if (!FOURS) return get_four<false>(row, at, len);
    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (at < len) {
        asm volatile("ld.global.nc.L1::no_allocate.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(four.x), "=f"(four.y), "=f"(four.z), "=f"(four.w)
                     : "l"(row + at));
    }
    return four;
}

__device__ float4 times(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
__device__ float4 times(float4 a, float b) { return make_float4(a.x * b, a.y * b, a.z * b, a.w * b); }

// d = a b: a 16 by 16, b 16 by 8, d 16 by 8, spread over a warp.
__device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
#endif
}

// d += a b.
__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], const unsigned* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// An address in shared memory, as instructions take it.
__device__ unsigned shared_address(const void* at) {
    unsigned found;
    asm("{.reg .u64 a; cvta.to.shared.u64 a, %1; cvt.u32.u64 %0, a;}" : "=r"(found) : "l"(at));
    return found;
}

// Four squares of 8 by 8 halves from shared memory, each lane's address being that of a row.
__device__ void load_squares(unsigned (&d)[4], unsigned at) {
#if __CUDA_ARCH__ >= 800
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(at)
                 : "memory");
#endif
}

// Sixteen bytes on their way to shared memory.
__device__ void copy_async(unsigned to, const void* from) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#endif
}

__device__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Two numbers to half precision, and what that leaves of them.
__device__ void split(float x, float y, unsigned& hi, unsigned& lo) {
#if __CUDA_ARCH__ >= 800
    float a, b;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(hi) : "f"(y), "f"(x));
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(a), "=f"(b) : "r"(hi));
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(lo) : "f"(y - b), "f"(x - a));
#endif
}

// Half precision has a small range: numbers up to `most` are brought just below 2^15 by a power of two, and back by another.
__device__ void level(float most, float& up, float& back) {
    unsigned exponent = max(__float_as_uint(most) >> 23, 15u);
    up = __uint_as_float((268 - exponent) << 23);
    back = __uint_as_float((exponent - 14) << 23);
}

// alpha in halves, as products take it: by 128 of its rows and 32 of its columns, each row's upper halves and then the lower ones; and
// by rows what they are scaled back by. A warp a row; `across` and `along` are how far rows and their numbers lie apart.
extern "C" __global__ void fast_halves(
    const float* alpha, unsigned short* halves, float* scales, unsigned rows, unsigned cols, unsigned across,
    unsigned along) {
    unsigned row = element() / 32, lane = threadIdx.x % 32, chunks = (cols + MIX_DEPTH - 1) / MIX_DEPTH;
    if (row >= (rows + MIX - 1) / MIX * MIX) return;
    float most = 0.0f, up, back;
    for (unsigned c = lane; c < cols && row < rows; c += 32) {
        most = fmaxf(most, fabsf(alpha[(size_t)row * across + (size_t)c * along]));
    }
#pragma unroll
    for (unsigned apart = 16; apart > 0; apart /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
    level(most, up, back);
    if (lane == 0) scales[row] = back;
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
        unsigned c = chunk * MIX_DEPTH + lane, hi = 0, lo = 0;
        float x = row < rows && c < cols ? alpha[(size_t)row * across + (size_t)c * along] : 0.0f;
        split(x * up, 0.0f, hi, lo);
        unsigned short* to = halves + ((size_t)(row / MIX * chunks + chunk) * MIX + row % MIX) * (2 * MIX_DEPTH) + lane;
        to[0] = hi;
        to[MIX_DEPTH] = lo;
    }
}

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
    const float* beta;
    // of fast_halves
    const unsigned char* halves;
    const float* scales;
    // [batch, width]
    float* out;
    unsigned batch, width, depth, count, rates;
    // whether entries are reads, and not the changes so far, each with its rate
    unsigned reads;
    // episodes of a block: it has no more than 128 entries of them, and rates
    unsigned each;
    unsigned unused;
};

// An entry's weight, given its episode's rates.
__device__ float fast_weight(const FastMix& s, unsigned entry, const float* eta) {
    float weight = s.reads ? 1.0f : eta[entry];
    unsigned from = s.reads ? 0 : entry + 1, to = s.reads ? s.decays[entry] : s.rates;
    for (unsigned r = from; r < to; ++r) weight *= 1.0f - eta[r];
    return weight;
}

// A row of a block's product: a pair of an episode and an entry. Rows that are left over have some others' numbers and go nowhere.
struct MixRow {
    const float *inner, *x, *outer, *beta;
    float weight;
};

// Brings 32 terms of all rows, from k on, to shared memory.
template <bool FOURS> __device__ void mix_terms(
    unsigned char* a, float* scales, const MixRow* rows, unsigned k, unsigned depth) {
    // eight threads a row of 32, so that a warp reads whole lines; everything is on its way before the first is waited for
    unsigned thread = threadIdx.x, at = thread % 8 * 4;
    float4 left[4], right[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const MixRow& row = rows[thread / 8 + 32 * i];
        left[i] = get_four_once<FOURS>(row.inner, k + at, depth);
        right[i] = get_four<FOURS>(row.x, k + at, depth);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        unsigned row = thread / 8 + 32 * i;
        float4 terms = times(left[i], right[i]);
        float most = fmaxf(fmaxf(fabsf(terms.x), fabsf(terms.y)), fmaxf(fabsf(terms.z), fabsf(terms.w))), up, back;
#pragma unroll
        for (unsigned apart = 1; apart < 8; apart *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
        level(most, up, back);
        terms = times(terms, up);
        uint2 hi, lo;
        split(terms.x, terms.y, hi.x, lo.x);
        split(terms.z, terms.w, hi.y, lo.y);
        unsigned char* to = a + row * MIX_ROW + 2 * at;
        *(uint2*)to = hi;
        *(uint2*)(to + 2 * MIX_DEPTH) = lo;
        if (at == 0) scales[row] = back;
    }
}

// One warp's share of a block's product, 32 rows by 64 columns, over 32 terms: a and b are addresses of its first rows.
__device__ void mix_product(float (&sums)[2][8][4], unsigned a, unsigned b, const float* scales) {
    unsigned lane = threadIdx.x % 32;
    a += lane % 16 * MIX_ROW + lane / 16 * 16;
    b += (lane / 16 * 8 + lane % 8) * MIX_ROW + lane / 8 % 2 * 16;
    float by_row[2][2];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) by_row[i / 2][i % 2] = scales[8 * i + lane / 4];
#pragma unroll
    for (unsigned k = 0; k < 2; ++k) {
        unsigned a_hi[2][4], a_lo[2][4];
#pragma unroll
        for (unsigned m = 0; m < 2; ++m) {
            load_squares(a_hi[m], a + 16 * m * MIX_ROW + 32 * k);
            load_squares(a_lo[m], a + 16 * m * MIX_ROW + 32 * k + 2 * MIX_DEPTH);
        }
#pragma unroll
        for (unsigned n = 0; n < 8; n += 2) {
            unsigned b_hi[4], b_lo[4];
            load_squares(b_hi, b + 8 * n * MIX_ROW + 32 * k);
            load_squares(b_lo, b + 8 * n * MIX_ROW + 32 * k + 2 * MIX_DEPTH);
            // the units cut sums off and do not round them: long ones are added up here. Of two products that need each other
            // there are always four begun
            float part[4][4];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) multiply(part[i], a_lo[i % 2], b_hi + i / 2 * 2);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) multiply_add(part[i], a_hi[i % 2], b_lo + i / 2 * 2);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) multiply_add(part[i], a_hi[i % 2], b_hi + i / 2 * 2);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
#pragma unroll
                for (unsigned j = 0; j < 4; ++j) sums[i % 2][n + i / 2][j] += part[i][j] * by_row[i % 2][j / 2];
            }
        }
    }
}

// The end of a mixture, 64 columns at a time: rows are weighed, and those of an episode added up.
template <bool FOURS> __device__ void mix_rows(
    const FastMix& s, float* results, const MixRow* rows, const float (&sums)[2][8][4], unsigned first, unsigned col0) {
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x, g = thread % 32 / 4, t = thread % 4;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        unsigned at = thread % 16 * 4, col = col0 + 64 * half + at;
        float4 by_outer[8];
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) by_outer[i] = get_four_once<FOURS>(rows[thread / 16 + 16 * i].outer, col, s.width);
        __syncthreads();
        if (warp % 2 == half) {
#pragma unroll
            for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
                for (unsigned n = 0; n < 8; ++n) {
                    float* to = results + (warp / 2 * 32 + 16 * m + g) * MIX_RESULTS + 8 * n + 2 * t;
                    *(float2*)to = make_float2(sums[m][n][0], sums[m][n][1]);
                    *(float2*)(to + 8 * MIX_RESULTS) = make_float2(sums[m][n][2], sums[m][n][3]);
                }
            }
        }
        __syncthreads();
        float4 scale = *(const float4*)(s.scales + col), beta = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (s.beta) beta = get_four<FOURS>(s.beta, col, s.width);
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const MixRow& row = rows[thread / 16 + 16 * i];
            float4& value = *(float4*)(results + (thread / 16 + 16 * i) * MIX_RESULTS + at);
            float4 sum = times(value, scale);
            if (row.beta) sum = make_float4(sum.x + beta.x, sum.y + beta.y, sum.z + beta.z, sum.w + beta.w);
            value = times(times(sum, row.weight), by_outer[i]);
        }
        __syncthreads();
        for (unsigned i = thread; i < 64 * s.each; i += blockDim.x) {
            unsigned e = i / 64, col = col0 + 64 * half + i % 64;
            if (first + e >= s.batch || col >= s.width) continue;
            float sum = 0.0f;
#pragma unroll 4
            for (unsigned j = 0; j < s.count; ++j) sum += results[(e * s.count + j) * MIX_RESULTS + i % 64];
            s.out[(size_t)(first + e) * s.width + col] = sum;
        }
    }
}

// out = sum over entries of w (alpha (inner x) + beta) outer.
extern "C" __global__ void __launch_bounds__(256, 2) fast_mix(const __grid_constant__ FastMix s) {
    // rows, and below them those of alpha, or results
    __shared__ __align__(16) unsigned char shared[2 * MIX * MIX_ROW];
    __shared__ MixRow rows[MIX];
    // by rows; before, rates
    __shared__ float scales[MIX];
    unsigned warp = threadIdx.x / 32, thread = threadIdx.x;
    // blocks of the same rows are neighbours
    unsigned across = (s.width + MIX - 1) / MIX, chunks = (s.depth + MIX_DEPTH - 1) / MIX_DEPTH;
    unsigned first = blockIdx.x / across * s.each, col0 = blockIdx.x % across * MIX;
    if (thread < s.each * s.rates) {
        scales[thread] = s.eta[thread % s.rates][min(first + thread / s.rates, s.batch - 1)];
    }
    __syncthreads();
    if (thread < MIX) {
        unsigned entry = thread % s.count, episode = min(thread / s.count, s.each - 1);
        size_t e = min(first + episode, s.batch - 1);
        MixRow& row = rows[thread];
        row.inner = s.inner[entry] + e * s.depth;
        row.x = s.x + e * s.depth;
        row.outer = s.outer[entry] + e * s.width;
        row.beta = s.reads && !s.biases[entry] ? nullptr : s.beta;
        row.weight = fast_weight(s, entry, scales + episode * s.rates);
    }
    float sums[2][8][4];
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
#pragma unroll
        for (unsigned n = 0; n < 8; ++n) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
    }
    unsigned a = shared_address(shared), b = a + MIX * MIX_ROW;
    const unsigned char* halves = s.halves + (size_t)(col0 / MIX) * chunks * (4 * MIX * MIX_DEPTH);
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            unsigned piece = thread + 256 * i;
            copy_async(b + piece / 8 * MIX_ROW + piece % 8 * 16, halves + (size_t)(1024 * chunk + piece) * 16);
        }
        if (s.depth % 4 == 0) mix_terms<true>(shared, scales, rows, chunk * MIX_DEPTH, s.depth);
        else mix_terms<false>(shared, scales, rows, chunk * MIX_DEPTH, s.depth);
        wait_for_copies();
        __syncthreads();
        unsigned row = warp / 2 * 32, col = warp % 2 * 64;
        mix_product(sums, a + row * MIX_ROW, b + col * MIX_ROW, scales + row);
    }
    if (s.width % 4 == 0) mix_rows<true>(s, (float*)shared, rows, sums, first, col0);
    else mix_rows<false>(s, (float*)shared, rows, sums, first, col0);
}
