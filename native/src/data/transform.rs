//! New tasks out of old images: pure functions of one image's bytes.

use eblora_core::random::Random;

/// A quarter turn to the left (counter-clockwise, as `numpy.rot90`) of a `height`×`width` grey image.
pub fn rotate90(image: &[u8], height: usize, width: usize) -> Vec<u8> {
    (0..width).rev().flat_map(|column| (0..height).map(move |row| image[row * width + column])).collect()
}

/// Half a turn.
pub fn rotate180(image: &[u8]) -> Vec<u8> {
    image.iter().rev().copied().collect()
}

/// Dark for light.
pub fn invert(image: &[u8]) -> Vec<u8> {
    image.iter().map(|&byte| 255 - byte).collect()
}

/// The order of `patches` patches that a seed gives, the same on every platform.
pub fn patch_order(seed: u64, patches: usize) -> Vec<usize> {
    Random::new(seed, "patches").permutation(patches)
}

/// Cuts a square grey image into `patch`×`patch` squares, counted row by row, and puts square `order[i]` at place i.
pub fn permute_patches(image: &[u8], side: usize, patch: usize, order: &[usize]) -> Vec<u8> {
    let per_row = side / patch;
    let corner = |i: usize| (i / per_row) * patch * side + (i % per_row) * patch;
    let mut permuted = vec![0; image.len()];
    for (to, &from) in order.iter().enumerate() {
        for row in 0..patch {
            let (to, from) = (corner(to) + row * side, corner(from) + row * side);
            permuted[to..to + patch].copy_from_slice(&image[from..from + patch]);
        }
    }
    permuted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_is_to_the_left() {
        // 1 2 3      3 6
        // 4 5 6  →   2 5
        //            1 4
        assert_eq!(rotate90(&[1, 2, 3, 4, 5, 6], 2, 3), [3, 6, 2, 5, 1, 4]);
    }

    #[test]
    fn turns_and_inversions_come_back() {
        let image: Vec<u8> = (0..16).collect();
        let quarter = |image: &[u8]| rotate90(image, 4, 4);
        assert_eq!(quarter(&quarter(&image)), rotate180(&image));
        assert_eq!(quarter(&quarter(&rotate180(&image))), image);
        assert_eq!(invert(&[0, 55, 255]), [255, 200, 0]);
        assert_eq!(invert(&invert(&image)), image);
    }

    #[test]
    fn patches_move_whole() {
        let image: Vec<u8> = (0..16).collect();
        let swapped = permute_patches(&image, 4, 2, &[3, 1, 2, 0]);
        assert_eq!(swapped, [10, 11, 2, 3, 14, 15, 6, 7, 8, 9, 0, 1, 12, 13, 4, 5]);
        assert_eq!(permute_patches(&image, 4, 2, &[0, 1, 2, 3]), image);
    }

    #[test]
    fn an_order_is_a_permutation_and_repeats() {
        let mut order = patch_order(1, 16);
        assert_eq!(order, patch_order(1, 16));
        assert_ne!(order, patch_order(2, 16));
        order.sort_unstable();
        assert_eq!(order, (0..16).collect::<Vec<_>>());
    }
}
