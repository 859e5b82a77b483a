// Patches under a convolution's kernel, written out as the columns of a matrix, and summed back from them.

struct Patches {
    unsigned inputs, image[2], kernel[2], area[2], padding;
};

// Columns [images, inputs, kernel rows, kernel columns, area] of the images from `first` on; a thread for
// each channel's patches' elements under one pixel of the area.
extern "C" __global__ void gather_patches(
    float* columns, const float* x, Patches p, unsigned first, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned area = p.area[0] * p.area[1], plane = i / area, pixel = i % area;
    int top = (int)(pixel / p.area[1]) - (int)p.padding, left = (int)(pixel % p.area[1]) - (int)p.padding;
    x += (first * p.inputs + plane) * p.image[0] * p.image[1];
    columns += plane * p.kernel[0] * p.kernel[1] * area + pixel;
    for (unsigned a = 0; a < p.kernel[0]; ++a) {
        for (unsigned b = 0; b < p.kernel[1]; ++b) {
            int row = top + (int)a, column = left + (int)b;
            bool inside = row >= 0 && row < (int)p.image[0] && column >= 0 && column < (int)p.image[1];
            *columns = inside ? x[row * p.image[1] + column] : 0.0f;
            columns += area;
        }
    }
}

// The transpose: each pixel of the images from `first` on gets the sum of the columns' elements that were
// gathered from it; a thread a pixel.
extern "C" __global__ void scatter_patches(
    float* x, const float* columns, Patches p, unsigned first, unsigned len) {
    unsigned i = element();
    if (i >= len) return;
    unsigned pixels = p.image[0] * p.image[1], plane = i / pixels, pixel = i % pixels;
    unsigned area = p.area[0] * p.area[1];
    int bottom = (int)(pixel / p.image[1] + p.padding), right = (int)(pixel % p.image[1] + p.padding);
    columns += plane * p.kernel[0] * p.kernel[1] * area;
    float sum = 0.0f;
    for (unsigned a = 0; a < p.kernel[0]; ++a) {
        for (unsigned b = 0; b < p.kernel[1]; ++b) {
            int row = bottom - (int)a, column = right - (int)b;
            bool inside = row >= 0 && row < (int)p.area[0] && column >= 0 && column < (int)p.area[1];
            if (inside) sum += columns[row * p.area[1] + column];
            columns += area;
        }
    }
    x[first * p.inputs * pixels + i] = sum;
}
