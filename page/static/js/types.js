/**
 * The shapes that travel between modules; nothing to run.
 *
 * Exact figures are decimal text, as they were published. Times are ISO-8601 text in UTC on
 * rows, and epoch ms where a name ends in Ms.
 *
 * @typedef {string} Decimal
 *
 * @typedef {object} Candle  a row of kind candle or preview
 * @property {"candle" | "preview"} kind
 * @property {string} instrument
 * @property {string} interval
 * @property {string} open_time
 * @property {string} close_time
 * @property {Decimal} open
 * @property {Decimal} high
 * @property {Decimal} low
 * @property {Decimal} close
 * @property {Decimal} volume
 * @property {Decimal | null} vwap
 * @property {number} trade_count
 * @property {string | null} close_trade_time
 * @property {number} revision
 * @property {boolean} gap_filled
 * @property {boolean} complete
 *
 * @typedef {object} Statistics  the rolling window of an instrument
 * @property {"statistics"} kind
 * @property {string} instrument
 * @property {string} open_time
 * @property {string} close_time
 * @property {Decimal | null} open
 * @property {Decimal | null} high
 * @property {Decimal | null} low
 * @property {Decimal | null} last
 * @property {Decimal | null} price_change
 * @property {Decimal | null} price_change_percent
 * @property {Decimal} volume
 * @property {Decimal} quote_volume
 * @property {Decimal | null} weighted_average_price
 * @property {number} trade_count
 *
 * @typedef {object} Ewma
 * @property {"ewma"} kind
 * @property {string} instrument
 * @property {string} window_start
 * @property {string} window_end
 * @property {number} value
 *
 * @typedef {object} Sales  the sales of a seller in a window
 * @property {"sales"} kind
 * @property {string} seller_id
 * @property {string} window_start
 * @property {string} window_end
 * @property {Decimal} aggregated_amount
 * @property {number} sale_count
 * @property {Decimal} min_amount
 * @property {Decimal} max_amount
 * @property {Decimal} mean_amount
 *
 * @typedef {{count: number, min: number, max: number, mean: number, last: number}} Sensor
 *
 * @typedef {object} Session  a session that has ended
 * @property {"session"} kind
 * @property {string} device
 * @property {string} session_id
 * @property {string} started_at
 * @property {string} ended_at
 * @property {string} reason
 * @property {number} event_count
 * @property {Record<string, Sensor>} sensors
 *
 * @typedef {object} Health  of a flow
 * @property {"health"} kind
 * @property {string} flow
 * @property {string} url
 * @property {boolean} up
 * @property {boolean} starting  it has not answered since the page's start, which was not long ago
 * @property {number | null} events_per_s
 * @property {number | null} watermark_lag_s
 * @property {number | null} consumer_lag
 * @property {number | null} late
 * @property {number | null} rejected
 * @property {string} checked_at
 * @property {string | null} error
 *
 * @typedef {Candle | Statistics | Ewma | Sales | Session | Health} Row
 * @typedef {{server: string, kinds: string[], rows: Row[]}} Snapshot
 */

export {};
