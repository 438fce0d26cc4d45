// A row for each workgroup, or, where the device has subgroups and rows are short, for each subgroup of whatever size:
// then nothing passes through workgroup memory and there is no barrier.
//! axis span: workgroup(SUBGROUPS = false), subgroup(SUBGROUPS = true)
const SUBGROUPS: bool = false;
//@ if SUBGROUPS
const THREADS: u32 = 128;

// The sum of every lane's value, in every lane.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    return subgroupAdd(value);
}

// The largest of every lane's values, in every lane.
fn reduce_max(lane: u32, value: f32) -> f32 {
    return subgroupMax(value);
}
//@ else
//! include shared/reduce.wgsl
//@ end
