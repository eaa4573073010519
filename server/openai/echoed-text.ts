/** A text that is sent piece by piece; all pieces together are the text. */
export interface CutText {
  /** The next Unicode characters, fewer where the text ends. */
  next(characters: number): string;
  /** What no piece had yet. */
  rest(): string;
}

export function cutText(text: string): CutText {
  let at = 0;
  const upTo = (end: number): string => {
    const piece = text.slice(at, end);
    at = end;
    return piece;
  };
  return {
    next(characters) {
      let end = at;
      for (let left = characters; left > 0 && end < text.length; left--) end += isPair(text, end) ? 2 : 1;
      return upTo(end);
    },
    rest: () => upTo(text.length),
  };
}

/** Characters of a token's text. Of "bytes:\xe2\x82", which stands for part of a character, each character's first byte counts. */
export function textLength(token: string): number {
  if (!/^bytes:(?:\\x[0-9a-f]{2})+$/.test(token)) return [...token].length;
  return token.match(/\\x[0-7c-f]/g)?.length ?? 0;
}

const isPair = (text: string, at: number): boolean => (text.codePointAt(at) ?? 0) > 0xffff;
