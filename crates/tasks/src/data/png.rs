//! One image of Omniglot: a 1-bit greyscale PNG.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{ImageDecoder, Limits};

/// Decodes a PNG of the given height and width, which `into` has to have; 255 is white.
pub(super) fn decode(bytes: &[u8], [height, width]: [usize; 2], into: &mut [u8]) -> Result<(), String> {
    check_header(bytes, [height, width])?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * (height * width) as u64 + (1 << 16));
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| error.to_string())?;
    if decoder.total_bytes() != into.len() as u64 {
        return Err(format!("{} bytes of pixels, expected {}", decoder.total_bytes(), into.len()));
    }
    decoder.read_image(into).map_err(|error| error.to_string())
}

/// Looks at the header alone, so that what is wrong with an image can be said in its own terms.
fn check_header(bytes: &[u8], [height, width]: [usize; 2]) -> Result<(), String> {
    let Some(header) = bytes.get(..26).filter(|header| header.starts_with(b"\x89PNG\r\n\x1a\n")) else {
        return Err("no PNG image, expected one".to_owned());
    };
    let side = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (found_height, found_width) = (side(20), side(16));
    if (found_height as usize, found_width as usize) != (height, width) {
        return Err(format!("an image of {found_height}x{found_width} pixels, expected {height}x{width}"));
    }
    let (depth, colour) = (header[24], header[25]);
    if (depth, colour) != (1, 0) {
        let kind = match colour {
            0 => "greyscale",
            2 => "RGB",
            3 => "palette",
            4 => "greyscale with alpha",
            6 => "RGB with alpha",
            _ => "unknown colour type",
        };
        return Err(format!("an image of {depth} bits, {kind}, expected 1 bit, greyscale"));
    }
    Ok(())
}
