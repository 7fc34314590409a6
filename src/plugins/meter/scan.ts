/**
 * Reads one function body and plans what the meter adds to it.
 *
 * A *point* is a place where fuel is taken. The function's entry and every loop
 * head are points; so is the start of a conditional run that is too long to be
 * charged with the point above it. An instruction is charged to a point that
 * runs before it, once for each time it runs: a point rules from where it stands
 * to the end of the block it stands in, loops inside excepted, because nothing
 * can jump over it and land there. So a path never pays less than it runs, and
 * never more than {@linkcode SPECULATION_MAX} above that for each point it meets.
 *
 * One point on every way round a loop and the entries of functions that call are
 * *gates*, where the fuel is also looked at: no path runs on for ever without
 * meeting one, and what it can overrun between two is bounded by the size of the
 * code. A function that calls itself, and has a short way to its end, has its
 * gates where it pays for calls instead, and none at its entry.
 *
 * A call pays the first {@linkcode PREPAID} units of what it calls, and exported
 * functions are reached by stubs that pay as much. So the ends of a recursion and
 * small functions take no fuel themselves, and every call is still paid for.
 *
 * A loop that calls nothing keeps its fuel in a local while it runs (a *region*);
 * the global is written back on every way out, except a trap.
 *
 * Never: a change to what the instructions compute; an index renumbered.
 *
 * @module
 */
import {
  isReferenceType,
  isValueType,
  Kind,
  MAIN,
  MISC,
  PREPAID,
  proposalOf,
  SIMD,
} from "./opcodes.ts";
import { refusal, type WasmReader } from "./wasm_reader.ts";

/** What a path may be charged for instructions it did not take, per point. */
export const SPECULATION_MAX = 128;

/** What the plan adds or replaces at an offset. */
export const Change = {
  /** Take `a` fuel. Nothing to do when `a` is zero. */
  point: 0,
  /** Take `a` fuel and trap when none is left. */
  gate: 7,
  /** Loop `a` begins here. */
  loopEnter: 1,
  /** Loop `a` ended here. */
  loopExit: 2,
  /** Control may go to loop `a` (-1: out of the function's loops). */
  leave: 3,
  /** A `br_if` to depth `b` whose label takes nothing, bound for loop `a`. */
  leaveIf: 4,
  /** Replace an index: instruction byte `b`, new index `a`. */
  redirect: 5,
  /** Call helper `a` with the length on top of the stack. */
  charge: 6,
} as const;

/** Which helper charges a length. */
export const Charge = { memory: 0, table: 1, memoryGrow: 2, tableGrow: 3 };

/** A function type, as far as the meter needs it. */
export interface FunctionType {
  params: readonly number[];
  results: readonly number[];
}

/** What the scanner knows of the module around a body. */
export interface ModuleShape {
  types: readonly FunctionType[];
  /** Imported functions come first in the index space. */
  importedFunctions: number;
  functions: number;
  /** The stubs of exported functions: a reference is to them, as the export is. */
  stubs: ReadonlyMap<number, number>;
  limits: BodyLimits;
}

export interface BodyLimits {
  /** Declared locals and parameters of one function. */
  localsMax: number;
  /** Blocks inside blocks. */
  depthMax: number;
  /** Targets of one `br_table`. */
  targetsMax: number;
}

/** Numbers a change is made of, in {@linkcode BodyPlan.changes}. */
export const CHANGE_STRIDE = 6;

/** What is to be done to one body. Reused from one body to the next. */
export interface BodyPlan {
  /** Locals and parameters; the meter's own local comes after them. */
  locals: number;
  localGroups: number;
  /** Where the first local group and the first instruction stand. */
  groupsStart: number;
  codeStart: number;
  /**
   * `[offset, change, a, b, loop, length]` each, offsets not falling. Of a point
   * the last says whether it pays for a call.
   */
  changes: Int32Array<ArrayBuffer>;
  count: number;
  /** The region of each loop, or -1. */
  regions: Int32Array<ArrayBuffer>;
}

const FUNCTION_FRAME = 0;
const BLOCK_FRAME = 1;
const LOOP_FRAME = 2;
const IF_FRAME = 3;

/** Plans bodies, one after the other. */
export class BodyScanner {
  readonly plan: BodyPlan = {
    locals: 0,
    localGroups: 0,
    groupsStart: 0,
    codeStart: 0,
    changes: new Int32Array(256 * CHANGE_STRIDE),
    count: 0,
    regions: new Int32Array(64),
  };
  readonly #shape: ModuleShape;
  #reader!: WasmReader;

  // Frames, by depth.
  readonly #frameKind: Uint8Array;
  readonly #frameLoop: Int32Array;
  readonly #framePoint: Int32Array;
  readonly #frameEmpty: Uint8Array;
  #depth = 0;

  // Loops, by number.
  #loopParent = new Int32Array(64);
  /** The change that is its first point, and the one all ways back pass. */
  #loopHead = new Int32Array(64);
  #loopBack = new Int32Array(64);
  #loopCalls = new Uint8Array(64);
  #loops = 0;
  #loop = -1;

  // The run being counted: its change, the depth it was opened at, its cost.
  #run = 0;
  #runDepth = 0;
  #cost = 0;
  #dead = false;
  /** Whether the run calls a function; and whether that is the function itself. */
  #calling = false;
  #recurring = false;
  /** The function's index. */
  #self = 0;
  /** Whether it calls at all; leaves its entry free; moved a gate that calls. */
  #hasCalls = false;
  #isFree = false;
  #hasMoved = false;

  constructor(shape: ModuleShape) {
    this.#shape = shape;
    const depths = shape.limits.depthMax + 2;
    this.#frameKind = new Uint8Array(depths);
    this.#frameLoop = new Int32Array(depths);
    this.#framePoint = new Int32Array(depths);
    this.#frameEmpty = new Uint8Array(depths);
  }

  /** Plans the body this reader spans, function `self`'s. @throws `bad_input` */
  scan(reader: WasmReader, type: FunctionType, self: number): BodyPlan {
    this.#reader = reader;
    this.#self = self;
    this.plan.count = 0;
    this.#loops = 0;
    this.#loop = -1;
    this.#calling = false;
    this.#recurring = false;
    this.#hasCalls = false;
    this.#isFree = false;
    this.#hasMoved = false;
    this.#scanLocals(type.params.length);
    this.plan.codeStart = reader.pos;
    this.#depth = -1;
    this.#dead = false;
    this.#push(FUNCTION_FRAME, type.results.length === 0);
    this.#openPoint(1 + (this.plan.locals >>> 2));
    this.#scanCode();
    this.#settleEntry();
    this.#settleRegions();
    return this.plan;
  }

  /** Where calls are met: at the entry, or at every point that pays for one. */
  #settleEntry(): void {
    const { changes, count } = this.plan;
    // Whoever called it has paid the beginning.
    changes[2] = Math.max(0, (changes[2] as number) - PREPAID);
    if (!this.#hasCalls) return;
    if (!this.#isFree || this.#hasMoved) {
      changes[1] = Change.gate;
      return;
    }
    for (let at = 0; at < count * CHANGE_STRIDE; at += CHANGE_STRIDE) {
      const isPoint = changes[at + 1] === Change.point;
      if (isPoint && changes[at + 5] === 1) changes[at + 1] = Change.gate;
    }
  }

  #scanLocals(params: number): void {
    const reader = this.#reader;
    const { localsMax } = this.#shape.limits;
    const groups = reader.count("groups of locals in one function", localsMax);
    this.plan.groupsStart = reader.pos;
    let locals = params;
    for (let n = 0; n < groups; n++) {
      locals += reader.u32();
      if (locals > localsMax) {
        throw refusal(
          `a function has ${locals} locals, the limit is ${localsMax}`,
          { details: { what: "locals", count: locals, max: localsMax } },
        );
      }
      this.#valueType();
    }
    this.plan.locals = locals;
    this.plan.localGroups = groups;
  }

  #scanCode(): void {
    const reader = this.#reader;
    const { bytes, end } = reader;
    const { kinds, weights } = MAIN;
    while (this.#depth >= 0) {
      if (reader.pos >= end) throw reader.truncated();
      const opcode = bytes[reader.pos++] as number;
      const kind = kinds[opcode] as number;
      this.#cost += weights[opcode] as number;
      switch (kind) {
        case Kind.plain:
          break;
        case Kind.index:
        case Kind.i32:
          reader.skipLeb(5);
          break;
        case Kind.memarg:
          this.#memarg();
          break;
        default:
          this.#instruction(kind, opcode, reader.pos - 1);
      }
    }
    if (reader.pos !== end) {
      throw refusal(`a function's code ends at byte ${reader.pos}, not ${end}`);
    }
  }

  #instruction(kind: number, opcode: number, start: number): void {
    const reader = this.#reader;
    switch (kind) {
      case Kind.i64:
        return reader.skipLeb(10);
      case Kind.f32:
        return reader.skip(4);
      case Kind.f64:
        return reader.skip(8);
      case Kind.memory:
        return this.#zero();
      case Kind.block:
      case Kind.loop:
      case Kind.if:
        return this.#open(kind, start);
      case Kind.else:
      case Kind.end:
        return this.#close(kind, start);
      case Kind.br:
      case Kind.brIf:
      case Kind.brTable:
      case Kind.return:
      case Kind.unreachable:
        return this.#branch(kind, start);
      case Kind.call:
      case Kind.returnCall:
      case Kind.refFunc:
        return this.#named(kind, opcode, start);
      case Kind.callIndirect:
      case Kind.returnCallIndirect:
        reader.skipLeb(5);
        reader.skipLeb(5);
        this.#calling = true;
        this.#hasCalls = true;
        this.#calls();
        if (kind === Kind.returnCallIndirect) this.#die();
        return;
      case Kind.selectTyped:
        if (reader.u32() !== 1) throw refusal("a `select` names not one type");
        return this.#valueType();
      case Kind.refNull:
        if (!isReferenceType(reader.u8())) throw this.#unknown("type", start);
        return;
      case Kind.memoryGrow:
        this.#zero();
        return this.#charge(Charge.memoryGrow, start);
      case Kind.prefixFc:
        return this.#misc(start);
      case Kind.prefixFd:
        return this.#simd(start);
      default:
        throw this.#refuseOpcode(opcode, start);
    }
  }

  #misc(start: number): void {
    const reader = this.#reader;
    const code = reader.u32();
    const kind = MISC.kinds[code] ?? Kind.unknown;
    this.#cost += MISC.weights[code] ?? 1;
    switch (kind) {
      case Kind.plain:
        return;
      case Kind.index:
        return reader.skipLeb(5);
      case Kind.memoryInit:
        reader.skipLeb(5);
        this.#zero();
        return this.#charge(Charge.memory, start);
      case Kind.memoryCopy:
        this.#zero();
        this.#zero();
        return this.#charge(Charge.memory, start);
      case Kind.memoryFill:
        this.#zero();
        return this.#charge(Charge.memory, start);
      case Kind.tableInit:
      case Kind.tableCopy:
        reader.skipLeb(5);
        reader.skipLeb(5);
        return this.#charge(Charge.table, start);
      case Kind.tableFill:
        reader.skipLeb(5);
        return this.#charge(Charge.table, start);
      case Kind.tableGrow:
        reader.skipLeb(5);
        return this.#charge(Charge.tableGrow, start);
      default:
        throw this.#unknown(`instruction 0xfc ${code}`, start);
    }
  }

  #simd(start: number): void {
    const reader = this.#reader;
    const code = reader.u32();
    if (code > 0xff) {
      throw refusal(
        `the SIMD instruction ${code} at byte ${start} is relaxed or newer`,
        {
          hint:
            "Build it without relaxed SIMD: its results are not the same everywhere",
        },
      );
    }
    this.#cost += SIMD.weights[code] as number;
    switch (SIMD.kinds[code]) {
      case Kind.plain:
        return;
      case Kind.memarg:
        return this.#memarg();
      case Kind.lane:
        return reader.skip(1);
      case Kind.memargLane:
        this.#memarg();
        return reader.skip(1);
      case Kind.wide:
        return reader.skip(16);
      default:
        throw this.#unknown(`instruction 0xfd ${code}`, start);
    }
  }

  // ---- control flow

  #open(kind: number, start: number): void {
    const reader = this.#reader;
    const blockType = reader.s33();
    if (kind === Kind.loop) {
      this.#settle();
      const loop = this.#addLoop();
      this.#add(start, Change.point);
      this.#add(start, Change.loopEnter, loop);
      this.#loop = loop;
      this.#push(LOOP_FRAME, this.#takesNothing(blockType, true));
      this.#openPoint(1);
      this.#loopHead[loop] = this.#run;
      this.plan.changes[this.#run * CHANGE_STRIDE + 1] = Change.gate;
      return;
    }
    const empty = this.#takesNothing(blockType, false);
    if (kind === Kind.block) return this.#push(BLOCK_FRAME, empty);
    this.#settle();
    this.#push(IF_FRAME, empty);
    this.#openRun();
  }

  #close(kind: number, start: number): void {
    this.#settle();
    const frame = this.#frameKind[this.#depth];
    if (kind === Kind.else) {
      if (frame !== IF_FRAME) {
        throw refusal(`a stray \`else\` at byte ${start}`);
      }
      // What was charged in the first arm says nothing about the second.
      this.#frameKind[this.#depth] = BLOCK_FRAME;
      this.#framePoint[this.#depth] = this
        .#framePoint[this.#depth - 1] as number;
    } else {
      this.#depth--;
      if (frame === LOOP_FRAME) {
        const loop = this.#loop;
        this.#moveGate(loop);
        this.#loop = this.#loopParent[loop] as number;
        this.#add(this.#reader.pos, Change.loopExit, loop);
      }
      if (this.#depth < 0) return;
    }
    this.#dead = false;
    this.#openRun();
  }

  #branch(kind: number, start: number): void {
    const reader = this.#reader;
    this.#settle();
    if (kind === Kind.br) {
      this.#leave(start, this.#target());
    } else if (kind === Kind.brIf) {
      return this.#branchIf(start);
    } else if (kind === Kind.brTable) {
      const { targetsMax } = this.#shape.limits;
      const targets = reader.count("targets in one `br_table`", targetsMax);
      // Bound for the outermost: leaving is right for all when it is for one.
      let out = this.#loop;
      for (let n = 0; n <= targets; n++) {
        out = Math.min(out, this.#frameLoop[this.#target()] as number);
      }
      if (out !== this.#loop) this.#add(start, Change.leave, out);
    } else if (this.#loop >= 0) this.#add(start, Change.leave, -1);
    this.#die();
  }

  #branchIf(start: number): void {
    const frame = this.#target();
    const loop = this.#frameLoop[frame] as number;
    if (loop !== this.#loop) {
      const change = this.#frameEmpty[frame] ? Change.leaveIf : Change.leave;
      this.#add(start, change, loop, this.#depth - frame);
    }
    this.#openRun();
  }

  /** The frame a label immediate names; the run before it is settled. */
  #target(): number {
    const label = this.#reader.u32();
    if (label > this.#depth) {
      throw refusal(`a branch at byte ${this.#reader.pos} has no target`);
    }
    const frame = this.#depth - label;
    if (this.#frameKind[frame] === LOOP_FRAME) this.#comesBack(frame);
    return frame;
  }

  /** Notes which point rules over all branches back to a loop's head. */
  #comesBack(frame: number): void {
    const loop = this.#frameLoop[frame] as number;
    const head = this.#loopHead[loop] as number;
    const back = this.#loopBack[loop] as number;
    const point = loop === this.#loop
      ? this.#framePoint[this.#depth] as number
      : head;
    this.#loopBack[loop] = back < 0 || back === point ? point : head;
  }

  /**
   * A loop whose every way back passes one point needs no other: the head's cost
   * goes to that point, and once to the place before the loop, for the time the
   * head runs and the point does not.
   */
  #moveGate(loop: number): void {
    const { changes } = this.plan;
    const head = (this.#loopHead[loop] as number) * CHANGE_STRIDE;
    const back = (this.#loopBack[loop] as number) * CHANGE_STRIDE;
    if (back < 0 || back === head) return;
    if (changes[head + 5] === 1) this.#hasMoved = true;
    const cost = changes[head + 2] as number;
    const before = head - 2 * CHANGE_STRIDE;
    changes[before + 2] = cost;
    changes[back + 2] = (changes[back + 2] as number) + cost;
    changes[back + 1] = Change.gate;
    changes[head + 1] = Change.point;
    changes[head + 2] = 0;
  }

  #leave(start: number, frame: number): void {
    const loop = this.#frameLoop[frame] as number;
    if (loop !== this.#loop) this.#add(start, Change.leave, loop);
  }

  /** `call`, `return_call`, `ref.func`: imports are reached by their wrapper. */
  #named(kind: number, opcode: number, start: number): void {
    const index = this.#reader.u32();
    const { importedFunctions, functions } = this.#shape;
    if (index >= functions) {
      throw refusal(`function ${index} does not exist (byte ${start})`);
    }
    if (index < importedFunctions) {
      this.#add(start, Change.redirect, functions + index, opcode);
    }
    if (kind === Kind.refFunc) {
      const stub = this.#shape.stubs.get(index);
      if (stub !== undefined) this.#add(start, Change.redirect, stub, opcode);
      return;
    }
    this.#calling = true;
    this.#hasCalls = true;
    this.#recurring ||= index === this.#self;
    this.#calls();
    if (kind === Kind.returnCall) this.#die();
  }

  #charge(helper: number, start: number): void {
    this.#add(start, Change.charge, helper);
    // The helper takes from the global.
    this.#calls();
  }

  /** What follows cannot be reached until the block ends. */
  #die(): void {
    this.#settle();
    this.#dead = true;
    this.#openRun();
  }

  #calls(): void {
    for (
      let loop = this.#loop;
      loop >= 0;
      loop = this.#loopParent[loop] as number
    ) {
      if (this.#loopCalls[loop]) return;
      this.#loopCalls[loop] = 1;
    }
  }

  // ---- frames, loops, runs

  #push(kind: number, empty: boolean): void {
    const depth = ++this.#depth;
    const { depthMax } = this.#shape.limits;
    if (depth > depthMax) {
      throw refusal(`its blocks nest deeper than ${depthMax} levels`, {
        details: { what: "nested blocks", max: depthMax },
      });
    }
    this.#frameKind[depth] = kind;
    this.#frameLoop[depth] = this.#loop;
    this.#frameEmpty[depth] = empty ? 1 : 0;
    this.#framePoint[depth] = depth > 0
      ? this.#framePoint[depth - 1] as number
      : 0;
  }

  #addLoop(): number {
    const loop = this.#loops++;
    if (loop === this.#loopParent.length) {
      this.#loopParent = grow(this.#loopParent);
      this.#loopHead = grow(this.#loopHead);
      this.#loopBack = grow(this.#loopBack);
      this.plan.regions = grow(this.plan.regions);
      const calls = new Uint8Array(this.#loopCalls.length * 2);
      calls.set(this.#loopCalls);
      this.#loopCalls = calls;
    }
    this.#loopParent[loop] = this.#loop;
    this.#loopCalls[loop] = 0;
    this.#loopBack[loop] = -1;
    return loop;
  }

  /** A point that must be there: what follows is charged to it. */
  #openPoint(cost: number): void {
    this.#openRun();
    this.#framePoint[this.#depth] = this.#run;
    this.#cost = cost;
  }

  /** A place where a point may come to stand. */
  #openRun(): void {
    this.#run = this.plan.count;
    this.#runDepth = this.#depth;
    this.#cost = 0;
    this.#add(this.#reader.pos, Change.point, 0, 0);
  }

  /** The run ends: charge it to the point above, or make it a point. */
  #settle(): void {
    const cost = this.#dead ? 0 : this.#cost;
    const isCalling = this.#calling && !this.#dead;
    const isRecurring = this.#recurring;
    this.#cost = 0;
    this.#calling = false;
    this.#recurring = false;
    if (cost === 0) return;
    const { changes } = this.plan;
    const run = this.#run * CHANGE_STRIDE;
    const above = (this.#framePoint[this.#runDepth] as number) * CHANGE_STRIDE;
    if (above !== run) {
      const speculative = (changes[above + 3] as number) + cost;
      const staysFree = isRecurring && this.#isPrepaid(above);
      this.#isFree ||= staysFree;
      if (speculative <= SPECULATION_MAX && !staysFree) {
        changes[above + 2] = (changes[above + 2] as number) + cost;
        changes[above + 3] = speculative;
        if (isCalling) changes[above + 5] = 1;
        return;
      }
      for (let depth = this.#runDepth; depth <= this.#depth; depth++) {
        this.#framePoint[depth] = this.#run;
      }
    }
    changes[run + 2] = (changes[run + 2] as number) + cost;
    if (isCalling) changes[run + 5] = 1;
  }

  /** An entry that takes nothing so far, as it is where a recursion ends. */
  #isPrepaid(above: number): boolean {
    const { changes } = this.plan;
    return above === 0 && (changes[2] as number) <= PREPAID &&
      changes[5] !== 1;
  }

  #add(offset: number, change: number, a = 0, b = 0): void {
    const { plan } = this;
    let at = plan.count++ * CHANGE_STRIDE;
    if (at === plan.changes.length) plan.changes = grow(plan.changes);
    const { changes } = plan;
    changes[at++] = offset;
    changes[at++] = change;
    changes[at++] = a;
    changes[at++] = b;
    changes[at++] = this.#loop;
    changes[at] = this.#reader.pos - offset;
  }

  /** A region is an outermost loop that calls nothing, with what is inside. */
  #settleRegions(): void {
    const { regions } = this.plan;
    for (let loop = 0; loop < this.#loops; loop++) {
      const parent = this.#loopParent[loop] as number;
      const outer = parent < 0 ? -1 : regions[parent] as number;
      regions[loop] = this.#loopCalls[loop] ? -1 : outer >= 0 ? outer : loop;
    }
  }

  // ---- immediates

  #takesNothing(blockType: number, isLoop: boolean): boolean {
    if (blockType === -64) return true;
    if (blockType < 0) {
      if (blockType < -64 || !isValueType(blockType + 0x80)) {
        throw this.#unknown("block type", this.#reader.pos);
      }
      return isLoop;
    }
    const type = this.#shape.types[blockType];
    if (type === undefined) throw refusal(`type ${blockType} does not exist`);
    return (isLoop ? type.params : type.results).length === 0;
  }

  #memarg(): void {
    const align = this.#reader.u8();
    if (align > 4) {
      throw refusal("it has more than one memory, or a bad alignment");
    }
    this.#reader.skipLeb(5);
  }

  /** A memory index that must be the first. */
  #zero(): void {
    if (this.#reader.u8() !== 0) throw refusal("it has more than one memory");
  }

  #valueType(): void {
    if (!isValueType(this.#reader.u8())) {
      throw this.#unknown("value type", this.#reader.pos - 1);
    }
  }

  #refuseOpcode(opcode: number, start: number): Error {
    const proposal = proposalOf(opcode);
    return proposal === undefined
      ? this.#unknown(`instruction 0x${opcode.toString(16)}`, start)
      : refusal(`it uses ${proposal} (byte ${start}), which is not accepted`, {
        hint: `Build it without ${proposal}`,
      });
  }

  #unknown(what: string, at: number): Error {
    return refusal(`an unknown ${what} at byte ${at}`);
  }
}

function grow(array: Int32Array): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(array.length * 2);
  grown.set(array);
  return grown;
}
