// The methods that the page offers: their names, and what each does in a line.

const ALL = {
  "lora-ft": ["LoRA-FT", "plain low-rank adapters, nothing protected"],
  ebo: ["EBO", "energy-balanced adapters, nothing protected"],
  eblora: ["EBLoRA", "energy-balanced, earlier tasks’ directions protected"],
  "eblora-plus": ["EBLoRA-plus", "EBLoRA that protects the trained model’s directions too"],
  "o-lora": ["O-LoRA", "low-rank adapters, pushed to be orthogonal to earlier ones"],
  "lora-gpm": ["LoRA + GPM", "low-rank adapters off earlier tasks’ gradient directions"],
  inflora: ["InfLoRA", "one factor fixed off earlier tasks’ inputs, the other trained"],
  keeplora: ["KeepLoRA", "one factor fixed off the weight’s and earlier tasks’ directions, the other trained"],
  sefe: ["SEFE (RegLoRA)", "low-rank adapters, kept from what earlier tasks changed most"],
  stella: ["StelLA", "U·S·Vᵀ with orthonormal U and V, nothing protected"],
  osf: ["OSF", "each weight’s least singular directions trained, the others frozen"],
  replay: ["Replay", "plain low-rank adapters, earlier tasks’ examples shown again"],
  "multi-task": ["Multi-task", "all tasks so far trained together: a bound, not continual"],
  individual: ["Individual", "each task alone, from the base: a bound, not continual"],
};

/** What a reader calls each method, by its name in the API. */
export const METHODS = Object.fromEntries(Object.entries(ALL).map(([method, [name]]) => [method, name]));

/** What each method does, in a line. */
export const RULES = Object.fromEntries(Object.entries(ALL).map(([method, [, rule]]) => [method, rule]));
