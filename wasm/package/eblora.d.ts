/**
 * eblora in the browser: one model that learns one thing after another. All of it runs in a worker on this machine.
 *
 * ```js
 * const eblora = await open();
 * await eblora.base();
 * const tasks = await eblora.bundledTasks(2);
 * const learner = await eblora.learner({ method: "eblora" });
 * const results = await learner.train(tasks.map((task) => task.id), (progress) => console.log(progress));
 * ```
 */

/** The device that computes. */
export interface DeviceInfo {
  kind: "webgpu" | "cpu";
  /** The adapter's name. */
  name: string;
  /** A WebGPU adapter that computes on the CPU. */
  software: boolean;
  /** Why the CPU is used and what to do, or the warning of a software adapter. */
  note: string | null;
}

/** A base model. */
export interface BaseInfo {
  /** "bundled", or the folder. */
  source: string;
  labels: string[];
  channels: number;
  height: number;
  width: number;
  /** The layers that adapters are for. */
  layers: { name: string; rows: number; cols: number; block: number }[];
}

/** A task of a session. */
export interface TaskInfo {
  id: number;
  name: string;
  /** Images to train on. */
  train: number;
  /** Images to measure on. */
  test: number;
  /** The labels that it uses. */
  labels: string[];
  /** What one should know of it. */
  warnings: string[];
}

/** A file; folders in its name are separated by `/`. */
export interface InputFile {
  name: string;
  bytes: Uint8Array;
}

/** A method, by its name on the command line. */
export type Method =
  | "lora-ft" | "individual" | "multi-task" | "replay" | "lora-gpm" | "o-lora" | "sefe"
  | "keeplora" | "inflora" | "stella" | "osf" | "ebo" | "eblora" | "eblora-plus";

/** What is not set is as in the native demo: 150 steps of 32 images, seed 0, ε 0.99, the method's rank and rates. */
export interface LearnerOptions {
  method: Method;
  rank?: number;
  steps?: number;
  batch?: number;
  seed?: number;
  /** Share of the gradient's energy that the protected subspace keeps (eblora, lora-gpm, keeplora). */
  epsilon?: number;
  /** Most directions that the protected subspace keeps a layer (eblora, lora-gpm); without it, no bound. */
  budget?: number;
  /** AdamW's rate of A and B (LoRA and its relatives), or of the weight's trained part (osf). */
  rate?: number;
  /** AdamW's rate of the magnitude s (ebo, eblora), or of S (stella). */
  sRate?: number;
  /** Relative step of U and V (ebo, eblora, stella). */
  relativeStep?: number;
  /** Measure on so many images of each task at most. */
  testImages?: number;
}

/** What a training tells; `task` is a task's id. */
export type Progress =
  | { kind: "evaluating"; task: number | null; done: number; total: number }
  | { kind: "task"; task: number }
  | { kind: "gradient"; task: number }
  | { kind: "step"; task: number; step: number; steps: number; loss: number; stepsPerSecond: number }
  /** Singular values of the update of each layer, some times in a task. */
  | { kind: "spectrum"; task: number; step: number; layers: { name: string; values: number[] }[] }
  | { kind: "learnt"; task: number; accuracy: (number | null)[] }
  | { kind: "warning"; text: string };

/** An answer of a model, with how sure it is, of 1. */
export interface Answer {
  answer: string;
  confidence: number;
}

/** What was measured. Accuracies in per cent; null: not measured, as the task was not there yet. */
export interface Results {
  /** The tasks' names, in the order in which they were learnt; what rows and columns are of. */
  tasks: string[];
  /** Of the base, or of the base with what was imported. */
  zeroShot: (number | null)[];
  /** accuracy[i][j]: after task i, on task j. */
  accuracy: (number | null)[][];
  /** Of every step of each task learnt. */
  losses: number[][];
  /** Singular values of each layer's update after a task's last step; `task` counts from 0 in `tasks`. */
  spectra: { task: number; layer: string; values: number[] }[];
  /** Of training and measuring. */
  seconds: number;
  method: string;
  options: LearnerOptions;
  /** Means over the tasks learnt so far; BWT is null before the second. */
  metrics: { MFT: number; MFN: number; MAA: number; BWT: number | null } | null;
}

/** What goes wrong: what was given can't be used; the device is gone; the learner trains; anything else. */
export class EbloraError extends Error {
  readonly code: "input" | "device-lost" | "busy" | "internal";
}

/** Starts a worker, loads the module and opens a device: `auto` takes WebGPU where it is a real one, else the CPU. */
export function open(options?: { device?: "auto" | "webgpu" | "cpu" }): Promise<Eblora>;

/** A session: a device, a base model, tasks, learners. */
export class Eblora {
  private constructor();
  readonly device: DeviceInfo;
  readonly version: string;
  /** Resolves with the message when the device is lost. */
  readonly lost: Promise<string>;
  /** The bundled base, or that in the files of a Hugging Face ViT folder; once, before any task. */
  base(files?: InputFile[]): Promise<BaseInfo>;
  /** The first `count` of: fashion, mnist-rot90, fashion-rot180, mnist-inverted, mnist-permuted. Asking again is free. */
  bundledTasks(count?: number): Promise<TaskInfo[]>;
  /**
   * A task out of files: a folder of images by class; a CSV, TSV, JSON or JSONL with the fields `image` and `label`, and
   * its images; idx or npy files of images and labels. Folders `train` and `test`, or files with `test` in their names,
   * say what is measured on; else every fifth image of a class is. Classes that the base doesn't know are new ones. An
   * error leaves all as it was.
   */
  addFiles(name: string, files: InputFile[]): Promise<TaskInfo>;
  /** A task out of drawings: channels × height × width bytes each, as the base takes them. New labels are new classes. */
  addDrawn(name: string, examples: { label: string; pixels: Uint8Array }[]): Promise<TaskInfo>;
  tasks(): Promise<TaskInfo[]>;
  /** A learner that has learnt nothing. */
  learner(options: LearnerOptions): Promise<Learner>;
  /** What {@link Learner.save} gave; its tasks must be there. */
  restore(bytes: Uint8Array): Promise<Learner>;
  /** A PNG or JPEG as the base takes it. */
  image(file: InputFile): Promise<Uint8Array>;
  /** Live device buffers, in use and pooled; nothing on the CPU. */
  memory(): Promise<{ buffers: number; bytes: number }>;
  /** Takes the device away, as a driver reset would: for tests. */
  loseDevice(): Promise<void>;
  /** A figure of the device; `size`: side of the matrices, images of the step, values read back. */
  bench(what: "matmul" | "step" | "readback", size?: number): Promise<{ name: string; value: number; unit: string }>;
  /** Ends the worker. */
  close(): void;
}

/** A method with what it has learnt. */
export class Learner {
  private constructor();
  readonly options: LearnerOptions;
  /**
   * Trains tasks by their ids, one after the other, after those it has learnt. Trainings of several learners take turns.
   * The same call again after {@link Learner.stop} goes on at the step.
   */
  train(tasks: number[], onProgress?: (progress: Progress) => void): Promise<Results>;
  /** Holds the training; resolves when it is held. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the training, its state kept; resolves when it has ended. */
  stop(): Promise<void>;
  results(): Promise<Results>;
  /** What it says of an image, the likeliest first; in a training, after its last step. */
  predict(pixels: Uint8Array): Promise<Answer[]>;
  /** Adapters in PEFT's layout, a folder a task, and `adapters.json`. */
  exportAdapters(): Promise<InputFile[]>;
  /**
   * Makes it the base plus the sum of adapters, ours or stock PEFT's, in place of what it has learnt; the results are those
   * of all tasks of the session, as `zeroShot`.
   */
  importAdapters(files: InputFile[]): Promise<Results>;
  /** Its state, with checksums. */
  save(): Promise<Uint8Array>;
  /** Forgets it; its device buffers are destroyed. */
  free(): Promise<void>;
}
