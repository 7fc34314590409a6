/**
 * What orders hidden in text look like: one list, read by the screen. It marks
 * what a model is shown and counts; it decides nothing.
 *
 * Patterns see text in lower case, NFKC, without invisible characters, with
 * look-alike letters as Latin ones. None may backtrack without bound.
 *
 * @module
 */

/** One row. */
export interface ScreenPattern {
  id: string;
  pattern: RegExp;
}

export const SCREEN_PATTERNS: readonly ScreenPattern[] = [
  {
    id: "ignore_previous",
    pattern:
      /\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|all|your|the|any)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules?|guidelines?|messages?|orders?|directions?)\b/,
  },
  {
    id: "new_instructions",
    pattern:
      /\b(?:new|updated|real|actual|important|urgent) (?:system )?instructions?\b ?(?::|follow|are|for)/,
  },
  {
    id: "role_play_as_system",
    pattern:
      /(?:^|\n)\s{0,8}[[<(#*]{0,4}\s?(?:system|developer|assistant)\b[^\n]{0,20}(?::|\]|>)/,
  },
  {
    id: "chat_markup",
    pattern:
      /<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[\/?inst\]|<<\/?sys>>|<\/?(?:system|function_calls|tool_call|antml)\b/,
  },
  {
    id: "you_are_now",
    pattern:
      /\byou(?: are|'re) (?:now|no longer)\b[^.\n]{0,60}\b(?:assistant|ai|model|mode|bound|restricted|dan|agent)\b/,
  },
  {
    id: "addressed_to_model",
    pattern:
      /\b(?:dear|hey|hello|attention|note to|message (?:to|for)|instructions? (?:to|for)) (?:the )?(?:ai|llm|assistant|agent|chat ?bot|language model|model)\b/,
  },
  {
    id: "do_not_tell",
    pattern:
      /\b(?:do not|don't|never) (?:tell|inform|mention|show|reveal|alert|ask|notify)\b[^.\n]{0,40}\b(?:user|owner|human|person|anyone)\b/,
  },
  {
    id: "before_you_answer",
    pattern:
      /\b(?:before|after|instead of) (?:you )?(?:answer|respond|reply|continu|summari[sz]|finish|solving|complet)\w{0,8}\b[^.\n]{0,60}\b(?:send|forward|e-?mail|fetch|visit|call|execute|run|transfer|delete|post)\b/,
  },
  {
    id: "reveal_prompt",
    pattern:
      /\b(?:reveal|print|repeat|show|output|leak)\b[^.\n]{0,30}\b(?:system prompt|hidden instructions?|initial prompt|your instructions|api keys?|secrets?)\b/,
  },
  {
    id: "exfiltrate",
    pattern:
      /\b(?:send|forward|post|upload|e-?mail|transfer|exfiltrate)\b[^.\n]{0,60}\b(?:passwords?|api keys?|credentials?|tokens?|private keys?|secrets?|all (?:files|e-?mails|messages|notes))\b/,
  },
  {
    id: "data_in_image_url",
    pattern: /!\[[^\]\n]{0,80}\]\(https?:\/\/[^)\s]{0,200}(?:\{|\$|<|%7b)/,
  },
  {
    id: "pre_approved",
    pattern:
      /\b(?:user|owner|admin(?:istrator)?) (?:has )?(?:already )?(?:approved|authori[sz]ed|confirmed|allowed)\b/,
  },
];
