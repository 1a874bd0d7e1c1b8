/** The order as a participant of its own fulfilment: how it ends, by command. */

import type { CancelOrder, CompleteOrder, ConfirmOrder } from '../../events/generated/payloads.ts';
import { NonRetryableError } from '../../inbox/failure.ts';
import type { Actor } from '../audit.ts';
import {
  answerHeaders,
  type Command,
  defineParticipant,
  type Participant,
  type ParticipantParts,
} from '../participant.ts';
import { completeOrder, confirmOrder, undoOrder } from './commands.ts';
import type { Order, OrderStatus } from './order.ts';
import { OrderBook } from './order-book.ts';

type Ending = Command<CancelOrder | CompleteOrder>;

/** Its group is `<topic prefix>order`. What it answers are the order's own events, which happen once; a repeated command is told so. */
export function orderParticipant(parts: ParticipantParts): Participant {
  const { events } = parts;
  return defineParticipant<CancelOrder | ConfirmOrder | CompleteOrder, OrderBook>(parts, {
    name: 'order',
    prepare: (commands, tx) =>
      OrderBook.open(
        tx,
        commands.map(({ payload }) => payload.orderId),
      ),
    finish: async (book, tx) => void (await book.save(tx, events)),
    carryOuts: {
      'commerce.CancelOrder': async (command, _tx, book) => {
        if (isOpen(command, book)) {
          undoOrder(book, actorOf(command), { ...answering(command), reason: 'OTHER', note: null });
        }
        return null;
      },
      'commerce.ConfirmOrder': async (command, _tx, book) => {
        if (isOpen(command, book, ['placed'])) confirmOrder(book, actorOf(command), answering(command));
        return null;
      },
      'commerce.CompleteOrder': async (command, _tx, book) => {
        if (isOpen(command, book)) completeOrder(book, actorOf(command), answering(command));
        return null;
      },
    },
  });
}

/** Whether the order is still in one of these states; if not, the command has been answered. */
function isOpen(
  { payload: { orderId }, correlation }: Ending,
  book: OrderBook,
  states: readonly OrderStatus[] = ['placed', 'confirmed'],
): boolean {
  const order = book.find(orderId);
  if (order === null) throw new NonRetryableError(`there is no order ${orderId}, so it cannot end`);
  if (states.includes(order.status)) return true;
  book.tell({ ...already(order), headers: answerHeaders(correlation) });
  return false;
}

/** Not counted among the order's versions: nothing has changed. */
function already({ id: orderId, status, changedAt }: Order) {
  const about = { aggregateType: 'order', aggregateId: orderId, aggregateVersion: null };
  switch (status) {
    case 'cancelled':
      return {
        ...about,
        type: 'commerce.OrderAlreadyCancelled',
        payload: { orderId, cancelledAt: changedAt },
      } as const;
    case 'completed':
      return {
        ...about,
        type: 'commerce.OrderAlreadyCompleted',
        payload: { orderId, completedAt: changedAt },
      } as const;
    default:
      return {
        ...about,
        type: 'commerce.OrderAlreadyConfirmed',
        payload: { orderId, confirmedAt: changedAt },
      } as const;
  }
}

function answering({ payload, correlation }: Ending) {
  return { orderId: payload.orderId, headers: answerHeaders(correlation) };
}

function actorOf({ correlation }: Ending): Actor {
  return { principal: correlation === null ? 'command' : `saga:${correlation.sagaId}`, requestId: null };
}
