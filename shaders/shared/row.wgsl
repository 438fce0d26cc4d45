// The way in of kernels that treat rows one by one, and their sums. All threads that share a row call the kernel's own
// `one_row(row, first, step)`, each to take the values first, first + step, …; there are `params.rows` rows. A row for each
// workgroup, or, where the device has subgroups and rows are short, for each subgroup of whatever size: then nothing passes
// through workgroup memory and there is no barrier.
//! include shared/grid.wgsl
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

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    //@ if SUBGROUPS
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
    //@ end
) {
    //@ if SUBGROUPS
    let row = linear_group(group, groups) * subgroups + subgroup;
    let first = lane;
    let step = lanes;
    //@ else
    let row = linear_group(group, groups);
    let first = thread;
    let step = THREADS;
    //@ end
    if row >= params.rows {
        return;
    }
    one_row(row, first, step);
}
