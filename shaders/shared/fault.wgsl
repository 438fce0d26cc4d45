// The first fault wins; codes as in `gpu/src/read.rs`.
const NOT_FINITE: u32 = 1;
const NOT_FINITE_POINT: u32 = 2;
const RANK_DEFICIENT: u32 = 3;

fn report(code: u32, item: u32) {
    let first = atomicCompareExchangeWeak(&fault[0], 0u, code);
    if first.exchanged {
        atomicStore(&fault[1], item);
    }
}

// WGSL compilers may assume that there are no NaNs, so the bits are looked at.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
