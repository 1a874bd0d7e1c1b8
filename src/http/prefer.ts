/** The Prefer header (RFC 7240), of which Ferry honours `wait`: how many seconds the client would rather wait than be refused. */

/** token [ BWS "=" BWS word ], where a word is a token or a quoted string; parameters behind a semicolon change nothing here. */
const PREFERENCE = /^\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:"([^"\\]*)"|([!#$%&'*+.^_`|~\w-]+))?)?\s*(?:;.*)?$/;

/**
 * The seconds of `wait`; null if the header does not ask for them. A preference is a wish: what cannot be read is passed over, and of a
 * preference that stands twice the first counts, as the RFC has it.
 */
export function preferredWaitSeconds(header: string): number | null {
  for (const preference of header.split(',')) {
    const [, name, quoted, token] = PREFERENCE.exec(preference) ?? [];
    if (name?.toLowerCase() !== 'wait') continue;
    const value = quoted ?? token ?? '';
    return /^\d{1,9}$/.test(value) ? Number(value) : null;
  }
  return null;
}
